"""Options that are common to several methods."""

from __future__ import annotations

from ._types import Option

__all__ = ["ADAM_OPTIONS", "WEIGHT_DECAY", "adam_options"]

WEIGHT_DECAY = Option(
    name="weight_decay",
    label="Weight decay",
    type=float,
    default=0.0,
    low=0.0,
    doc=(
        "Decoupled weight decay, multiplied by the learning rate as in AdamW. It is "
        "not applied to orthonormal factors."
    ),
)


def adam_options(eps: float = 1e-8) -> tuple[Option, ...]:
    """Return the options beta1, beta2 and eps of Adam."""
    return (
        Option(
            name="beta1",
            label="Beta1",
            type=float,
            default=0.9,
            low=0.0,
            high=1.0,
            high_open=True,
            doc="Decay rate of the running average of the gradient.",
        ),
        Option(
            name="beta2",
            label="Beta2",
            type=float,
            default=0.999,
            low=0.0,
            high=1.0,
            high_open=True,
            doc="Decay rate of the running average of the squared gradient.",
        ),
        Option(
            name="eps",
            label="EPS",
            type=float,
            default=eps,
            low=0.0,
            low_open=True,
            doc="Term that is added to the square root of the second moment for "
            "numerical stability.",
        ),
    )


ADAM_OPTIONS = adam_options()

"""Options for separate weight decay of B and A, and methods that do not have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._types import Method, Option

__all__ = ["DECAYS", "FACTOR_DECAY", "decay_of", "decays_apart", "no_decay_of"]


def _option(factor: str, module: str) -> Option:
    return Option(
        name=f"weight_decay_{factor.lower()}",
        label=f"Weight decay of {factor}",
        type=float,
        default=None,
        low=0.0,
        optional=True,
        unset_means="weight_decay",
        unset_as="weight_decay",
        doc=f"Weight decay of {factor} ({module}), used instead of weight_decay. "
        "Parameters outside LoRA pairs always use weight_decay.",
    )


FACTOR_DECAY = (_option("B", "lora_up"), _option("A", "lora_down"))
"""For methods that train B and A as separate parameters."""

DECAYS = frozenset(("weight_decay", *(option.name for option in FACTOR_DECAY)))
"""Names of all options for weight decay."""

_BY_ROLE = {"up": FACTOR_DECAY[0].name, "down": FACTOR_DECAY[1].name}


def decays_apart(options: Mapping[str, Any]) -> bool:
    """Return whether B or A has its own weight decay."""
    return any(options.get(name) is not None for name in _BY_ROLE.values())


def decay_of(role: str | None, options: Mapping[str, Any]) -> Any:
    """Return the weight decay of B ("up"), of A ("down") or of other parameters (None).

    Args:
        role: factor whose weight decay is returned.
        options: options, or a parameter group, with ``weight_decay``.
    """
    own = options.get(_BY_ROLE[role]) if role else None
    return options["weight_decay"] if own is None else own


def no_decay_of(entry: Method, name: str) -> str | None:
    """Return the reason why a method does not have one of these options, or None.

    Args:
        entry: catalogue entry of the method.
        name: name of an option that the method does not have.
    """
    if name not in _BY_ROLE.values() or entry.implementation is not None:
        return None
    if not any(option.name == "weight_decay" for option in entry.options):
        return None
    if entry.start == "lora":
        reason = "the result of a step depends on the product B A alone"
    else:
        reason = "B stays orthonormal and cannot decay"
    return f"{reason}. Use weight_decay, which decays the product B A"

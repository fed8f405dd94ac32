"""Names of the curves in the logs of a run."""

from __future__ import annotations

__all__ = [
    "AVERAGE_LOSS",
    "EFFECTIVE",
    "LOSS_LABEL",
    "LOSS_WINDOW",
    "LOWEST_RANK",
    "MAGNITUDE_CHANGE",
    "MEAN_RANK",
    "ORTHOGONALITY",
    "SHARE_OF_RANK",
    "SPECTRUM_EVENT",
    "STABLE",
    "VALIDATION_BIN",
    "bin_of_tag",
    "measured_at",
    "split_section",
    "tag_of",
    "validation_tag",
]

# Kinds of curves with one curve per block: ``effective_rank.<section>/<block>``.
EFFECTIVE, STABLE = "effective_rank", "stable_rank"
ORTHOGONALITY, MAGNITUDE_CHANGE = "orthogonality", "magnitude_change"

AVERAGE_LOSS = "loss/train_smooth"
"""Tag of the exponential moving average of the training loss, bias-corrected."""

LOSS_WINDOW = 50
"""Length of the average in steps: the weight of a step decreases by 1/50 per step."""

LOSS_LABEL = f"loss ({LOSS_WINDOW}-step average)"
"""Displayed name of the average."""

MEAN_RANK = "effective_rank/mean"
"""Tag of the mean effective rank of all blocks."""

LOWEST_RANK = "effective_rank/lowest"
"""Tag of the smallest effective rank of all blocks."""

SHARE_OF_RANK = "effective_rank/share_of_rank"
"""Tag of the mean of effective rank / rank, in [0, 1]."""


SPECTRUM_EVENT = "spectrum"
"""Kind of the events with ``mean_shares``: the mean over all blocks of each singular
value of the update divided by their sum, in descending order."""

VALIDATION_BIN = "validation/timesteps_"
"""Prefix of the tags of the validation loss in a range of timesteps."""


def validation_tag(low: int, high: int) -> str:
    """Return the tag of the validation loss from timestep ``low`` to below ``high``.

    >>> validation_tag(0, 250)
    'validation/timesteps_000-249'
    """
    return f"{VALIDATION_BIN}{low:03d}-{high - 1:03d}"


def bin_of_tag(tag: str) -> str | None:
    """Return the range of timesteps of a tag as text. None for other tags.

    >>> bin_of_tag("validation/timesteps_000-249"), bin_of_tag("validation/loss")
    ('0-249', None)
    """
    if not tag.startswith(VALIDATION_BIN):
        return None
    low, _, high = tag.removeprefix(VALIDATION_BIN).partition("-")
    return f"{int(low)}-{int(high)}"


def tag_of(kind: str, name: str) -> str:
    """Return the tag of a block. Its section of the model is before the slash.

    >>> tag_of("effective_rank", "down_blocks.1.attentions.0.proj_in")
    'effective_rank.down_blocks.1/attentions.0.proj_in'
    """
    section, rest = split_section(name)
    return f"{kind}.{section}/{rest}"


def split_section(name: str) -> tuple[str, str]:
    """Split the name of a block into its section (``mid_block``, ...) and the rest."""
    parts = name.split(".")
    size = 2 if len(parts) > 2 and parts[1].isdigit() else 1
    if len(parts) <= size:
        return "other", name
    return ".".join(parts[:size]), ".".join(parts[size:])


def measured_at(label: str, measured: int, step: int) -> str:
    """Return the label of a value, with its step if it was measured at an earlier one.

    >>> measured_at("validation loss", 60, 70)
    'validation loss (step 60)'
    """
    return label if measured == step else f"{label} (step {measured})"

"""Names of the curves, which a run writes and tables and charts read."""

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
    "STABLE",
    "split_section",
    "tag_of",
]

# Kinds of curves with one curve per block: ``effective_rank.<section>/<block>``.
EFFECTIVE, STABLE = "effective_rank", "stable_rank"
ORTHOGONALITY, MAGNITUDE_CHANGE = "orthogonality", "magnitude_change"

AVERAGE_LOSS = "loss/train_smooth"
"""Exponential average of the training loss, bias-corrected."""

LOSS_WINDOW = 50
"""Steps that the average spans: each further step has 49/50 of the weight before."""

LOSS_LABEL = f"loss ({LOSS_WINDOW}-step average)"
"""Name of the average where it is shown."""

MEAN_RANK = "effective_rank/mean"
"""Mean effective rank of all blocks."""

LOWEST_RANK = "effective_rank/lowest"
"""Smallest effective rank of a block."""

SHARE_OF_RANK = "effective_rank/share_of_rank"
"""Mean of effective rank / rank, in [0, 1]."""


def tag_of(kind: str, name: str) -> str:
    """Return the tag of a block, with its section of the model before the slash.

    >>> tag_of("effective_rank", "down_blocks.1.attentions.0.proj_in")
    'effective_rank.down_blocks.1/attentions.0.proj_in'
    """
    section, rest = split_section(name)
    return f"{kind}.{section}/{rest}"


def split_section(name: str) -> tuple[str, str]:
    """Split a block's name into section (``down_blocks.1``, ``mid_block``) and rest."""
    parts = name.split(".")
    size = 2 if len(parts) > 2 and parts[1].isdigit() else 1
    if len(parts) <= size:
        return "other", name
    return ".".join(parts[:size]), ".".join(parts[size:])

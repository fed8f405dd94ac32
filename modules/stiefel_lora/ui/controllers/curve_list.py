"""Curves of a run: their tags, names, colors and captions."""

from __future__ import annotations

import dataclasses

from ...metrics.tags import (
    AVERAGE_LOSS,
    LOSS_WINDOW,
    LOWEST_RANK,
    MEAN_RANK,
    bin_of_tag,
)
from .run_record import RunRecord

__all__ = ["CAPTIONS", "Curve", "caption_of_plot", "curves_of"]

CAPTIONS = {
    "Loss": "If the validation loss rises, the LoRA overfits.",
    "Effective rank": "Directions in use by the blocks, at most the rank.",
    "Learning rate": "Size of the updates, set by the scheduler.",
}
"""Lines below the plots, by the name of the plot."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """Curve of a plot."""

    tag: str
    name: str
    """Name in the legend."""

    light: str
    """Color in the light theme."""

    dark: str
    """Color in the dark theme."""

    line: str = "solid"
    """Style: solid, dashed, dotted, dash-dot or dash-dot-dot."""

    width: int = 2
    points: bool = False
    """Whether each value has a symbol."""


_FIXED = {
    "Loss": (
        Curve("loss/train", "loss", "#9db7d6", "#4f6a8c", width=1),
        Curve(AVERAGE_LOSS, f"average of {LOSS_WINDOW} steps", "#1f5fae", "#7fb4f0"),
        Curve("validation/loss", "validation loss", "#c2410c", "#ff9e5e", points=True),
    ),
    "Effective rank": (
        Curve(MEAN_RANK, "mean", "#1f5fae", "#7fb4f0"),
        Curve(LOWEST_RANK, "lowest", "#c2410c", "#ff9e5e"),
    ),
}
# Equal learning rates are drawn over each other, so later ones are also dashed.
_RATES = (
    ("#1f5fae", "#7fb4f0", "solid"),
    ("#c2410c", "#ff9e5e", "dashed"),
    ("#2e7d32", "#7bd389", "dotted"),
    ("#7b3fa0", "#cf9df0", "dash-dot"),
    ("#8a6d00", "#e3c34d", "dash-dot-dot"),
    ("#00727d", "#5ccfdb", "dashed"),
)


def curves_of(record: RunRecord) -> dict[str, list[Curve]]:
    """Return the curves of a run that have values, by the name of the plot."""
    found = {
        plot: [curve for curve in curves if curve.tag in record.series]
        for plot, curves in _FIXED.items()
    }
    rates = [tag for tag in record.series if tag.startswith("lr/")]
    found["Learning rate"] = [
        Curve(tag, tag.removeprefix("lr/"), *_RATES[number % len(_RATES)])
        for number, tag in enumerate(rates)
    ]
    return found


def caption_of_plot(plot: str, record: RunRecord | None) -> str:
    """Return the line below a plot.

    That of the loss has the last validation loss of each range of timesteps.
    """
    if plot != "Loss" or record is None:
        return CAPTIONS[plot]
    parts = [
        f"{found} {series.values[-1]:.4g}"
        for tag, series in record.series.items()
        if (found := bin_of_tag(tag)) and len(series.values)
    ]
    if not parts:
        return CAPTIONS[plot]
    return f"Validation loss by timesteps (0 is no noise): {', '.join(parts)}"

"""Figure of one or several runs: losses, ranks and spectrum, without TensorBoard."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._exceptions import InputError
from .._install import install_command
from ..files.atomic import atomic_write
from ..metrics.tags import (
    AVERAGE_LOSS,
    EFFECTIVE,
    LOSS_LABEL,
    LOWEST_RANK,
    MEAN_RANK,
    SPECTRUM_EVENT,
)
from .run_summary import RunSummary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "write_figure"]

FORMATS = (".png", ".svg", ".html")
"""Suffixes of the files."""

_SIZE = (11.0, 7.5)
# Earlier spectra are brighter.
_MOST_SPECTRA = 6
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<body style="font-family: sans-serif; margin: 1em">
<h1>{title}</h1>
<img alt="{alt}" style="max-width: 100%" src="data:image/svg+xml;base64,{data}">
{table}
</body></html>
"""


def write_figure(path: Path, runs: Sequence[RunSummary], table: str = "") -> None:
    """Write the figure of runs as PNG, SVG or HTML, according to the suffix.

    Args:
        path: path of the file.
        runs: the runs. Their curves share the axes.
        table: HTML to add below the figure of an HTML page.

    Raises:
        InputError: If the suffix is not supported, or matplotlib is not installed.
        OutputError: If the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(
            f"--output {path}: the suffix must be one of {', '.join(FORMATS)}."
        )
    figure = _figure(runs)
    data = io.BytesIO()
    figure.savefig(data, format="png" if suffix == ".png" else "svg", dpi=110)
    content = data.getvalue()
    if suffix == ".html":
        title = ", ".join(html.escape(run.name) for run in runs)
        alt = f"Losses, effective rank and spectrum of {title}"
        encoded = base64.b64encode(content).decode()
        page = _PAGE.format(title=title, alt=alt, data=encoded, table=table)
        content = page.encode()
    with atomic_write(path) as part:
        part.write_bytes(content)


def _figure(runs: Sequence[RunSummary]) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise InputError(
            "Plots require the package matplotlib, which is not installed. Install it "
            f"with: {install_command('plots')}"
        ) from None
    # Not pyplot, which opens a display and keeps every figure in memory.
    figure = Figure(figsize=_SIZE, layout="constrained")
    (losses, ranks), (map_, spectrum) = figure.subplots(2, 2)
    _draw_losses(losses, runs)
    _draw_ranks(ranks, runs)
    if len(runs) == 1:
        _draw_map(figure, map_, runs[0])
        _draw_spectra(spectrum, runs[0])
    else:
        _draw_final_ranks(map_, runs)
        _draw_final_spectra(spectrum, runs)
    return figure


def _draw_losses(axes: Any, runs: Sequence[RunSummary]) -> None:
    axes.set(title="loss", xlabel="step")
    for number, run in enumerate(runs):
        mark = "" if len(runs) == 1 else f"{run.name}: "
        color = f"C{number}"
        _line(axes, run.curve(AVERAGE_LOSS), f"{mark}{LOSS_LABEL}", color, "--")
        _line(axes, run.curve("validation/loss"), f"{mark}validation loss", color, "-o")
    _finish(axes)


def _draw_ranks(axes: Any, runs: Sequence[RunSummary]) -> None:
    axes.set(title="effective rank", xlabel="step")
    for number, run in enumerate(runs):
        mark = "" if len(runs) == 1 else f"{run.name}: "
        color = f"C{number}"
        _line(axes, run.curve(MEAN_RANK), f"{mark}mean", color, "-o")
        _line(axes, run.curve(LOWEST_RANK), f"{mark}lowest", color, ":")
        rank = run.config.get("lora_rank")
        if isinstance(rank, int):
            axes.axhline(rank, color="0.6", linewidth=0.8)
    axes.set_ylim(bottom=0, top=1.05 * max(axes.get_ylim()[1], 1))
    _finish(axes)


def _line(axes: Any, curve: list[Any], label: str, color: str, style: str) -> None:
    if curve:
        steps, values = zip(*curve, strict=True)
        axes.plot(steps, values, style, color=color, label=label, markersize=3)


def _blocks(run: RunSummary) -> tuple[list[str], list[int], list[list[float]]]:
    """Return the tags of the blocks, the steps, and effective ranks by step."""
    events = [event for event in run.events if event["type"] == "ranks"]
    prefix = f"{EFFECTIVE}."
    tags = [t for t in (events[-1]["values"] if events else ()) if t.startswith(prefix)]
    steps = [event["step"] for event in events]
    rows = [[_number(event["values"].get(tag)) for tag in tags] for event in events]
    return tags, steps, rows


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _draw_map(figure: Any, axes: Any, run: RunSummary) -> None:
    axes.set(title="effective rank of every block", xlabel="measurement")
    tags, steps, rows = _blocks(run)
    if not tags:
        _say_missing(axes)
        return
    columns = [list(column) for column in zip(*rows, strict=True)]
    image = axes.imshow(columns, aspect="auto", interpolation="nearest", vmin=0)
    figure.colorbar(image, ax=axes)
    places = range(0, len(steps), max(1, len(steps) // 6))
    axes.set_xticks(list(places), [f"step {steps[place]}" for place in places])
    axes.set_ylabel(f"{len(tags)} blocks, in the order of the model")


def _draw_final_ranks(axes: Any, runs: Sequence[RunSummary]) -> None:
    axes.set(title="effective rank of the blocks at the end", xlabel="share of blocks")
    for number, run in enumerate(runs):
        _, _, rows = _blocks(run)
        values = sorted(value for value in (rows[-1] if rows else ()) if value == value)
        shares = [(index + 1) / len(values) for index in range(len(values))]
        points = list(zip(shares, values, strict=True))
        _line(axes, points, run.name, f"C{number}", "-")
    axes.set_ylim(bottom=0)
    _finish(axes)


def _spectra(run: RunSummary) -> list[tuple[int, list[float]]]:
    """Return the step and the mean spectrum of each measurement."""
    return [
        (event["step"], event["values"]["mean_shares"])
        for event in run.events
        if event["type"] == SPECTRUM_EVENT and event["values"].get("mean_shares")
    ]


def _draw_spectra(axes: Any, run: RunSummary) -> None:
    _begin_spectra(axes)
    found = _spectra(run)
    every = -(-len(found) // _MOST_SPECTRA) or 1
    # Counted from the end, so that the last one is shown.
    shown = found[::-1][::every][::-1]
    for number, (step, shares) in enumerate(shown, start=1):
        strength = number / len(shown)
        points = list(enumerate(shares, start=1))
        _line(axes, points, f"step {step}", str(round(0.8 * (1 - strength), 2)), "-")
    axes.set_ylim(bottom=0)
    _finish(axes)


def _draw_final_spectra(axes: Any, runs: Sequence[RunSummary]) -> None:
    _begin_spectra(axes)
    for number, run in enumerate(runs):
        found = _spectra(run)
        points = list(enumerate(found[-1][1], start=1)) if found else []
        _line(axes, points, run.name, f"C{number}", "-")
    axes.set_ylim(bottom=0)
    _finish(axes)


def _begin_spectra(axes: Any) -> None:
    axes.set(
        title="spectrum, mean of all blocks",
        xlabel="singular value",
        ylabel="share of the sum",
    )


def _finish(axes: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")
    else:
        _say_missing(axes)


def _say_missing(axes: Any) -> None:
    axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)

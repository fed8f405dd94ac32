"""Tables of the study, from rows alone."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator

from demo_runs import Rows
from stages import ADAMW, Cell, Stage

__all__ = ["paired_interval", "report"]

# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom.
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def report(stage: Stage, done: Rows) -> str:
    """One stage as Markdown."""
    lines = [
        f"## {stage.title}",
        "",
        "Loss on the half of the validation images that no rate was chosen on; lower "
        "is better. Lowest: over the evaluations of a run, mean over seeds. Against "
        "AdamW: paired by seed, each at its own best rate, with the 95 % interval.",
        "",
        "| task | base | rank | steps | method | rates | best rate | seeds "
        "| final loss | lowest | against AdamW | effective rank |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(_line(cell, stage, done) for cell in stage.cells),
    ]
    return "\n".join(lines) + "\n"


def _line(cell: Cell, stage: Stage, done: Rows) -> str:
    rates = [r for r in cell.sweep(done) if not math.isnan(cell.chosen_on(done, r))]
    head = (
        f"| {cell.task} | {cell.base} | {cell.rank} | {cell.steps} "
        f"| {cell.method.label} "
    )
    best = cell.best(done)
    if best is None:
        return head + f"| {len(rates)} | not run | - | not run | - | - | - |"
    rows = cell.rows(done, best)
    finals = [_reported(row) for row in rows.values()]
    lowest = [min(part[1] for part in row["curve"]) for row in rows.values()]
    ranks = [row["effective_rank_mean"] for row in rows.values()]
    at_edge = best in (min(rates), max(rates))
    return head + (
        f"| {len(rates)} | {best:.3g}{' (edge)' if at_edge else ''} | {len(rows)} "
        f"| {statistics.fmean(finals):.4f} ({min(finals):.4f}-{max(finals):.4f}) "
        f"| {statistics.fmean(lowest):.4f} | {_against_adamw(cell, stage, done)} "
        f"| {statistics.fmean(ranks):.1f} |"
    )


def _reported(row: dict) -> float:
    return row["curve"][-1][1] if "curve" in row else row["held_out"]


def _against_adamw(cell: Cell, stage: Stage, done: Rows) -> str:
    rivals = [
        other
        for other in stage.cells
        if other.method == ADAMW
        and dataclasses.replace(other, method=cell.method, rates=cell.rates) == cell
    ]
    if cell.method == ADAMW or not rivals:
        return "-"
    best, rate = cell.best(done), rivals[0].best(done)
    if best is None or rate is None:
        return "not run"
    own, other = cell.rows(done, best), rivals[0].rows(done, rate)
    differences = [
        100 * (_reported(own[seed]) / _reported(other[seed]) - 1)
        for seed in own
        if seed in other
    ]
    return " ".join(_interval_text(differences))


def _interval_text(differences: list[float]) -> Iterator[str]:
    yield f"{statistics.fmean(differences):+.2f} %"
    if len(differences) < 2:
        yield "(one seed, not a quality claim)"
        return
    low, high = paired_interval(differences)
    yield f"({low:+.2f} to {high:+.2f})"


def paired_interval(differences: list[float]) -> tuple[float, float]:
    """95 % interval of the mean of paired differences, by Student's t."""
    count = len(differences)
    middle = statistics.fmean(differences)
    half = T_95[count - 2] * statistics.stdev(differences) / count**0.5
    return middle - half, middle + half

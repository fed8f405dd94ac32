"""Results of a comparison of optimizers as Markdown and JSON."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .comparison import Comparison, Contest, Losses

__all__ = ["Row", "as_json", "markdown", "paired_interval", "rows_of"]

# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom.
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)

HEADS = (
    "optimizer",
    "rates",
    "best rate",
    "seeds",
    "final loss (min-max)",
    "against the first",
    "effective rank",
    "time of a run",
)


@dataclasses.dataclass(frozen=True)
class Row:
    """Results of an optimizer with its best learning rate."""

    optimizer: str
    rates: Sequence[float]
    rate: float | None
    at_edge: bool
    """Whether the best learning rate is the lowest or highest that was tried."""

    swept: bool
    """Whether all learning rates were tried. If not, the best one is unknown."""

    losses: Mapping[int, Losses]
    """Losses by seed."""

    differences: Sequence[float]
    """Differences from the baseline with the same seed, in percent."""


def rows_of(comparison: Comparison, known: Mapping[Contest, Losses]) -> list[Row]:
    """Return a row for each optimizer, in the order of the comparison."""
    baseline: Mapping[int, Losses] | None = None
    found = []
    for optimizer in comparison.usual:
        rates = comparison.sweep(optimizer, known)
        rate = comparison.best(optimizer, known)
        losses = {
            seed: known[contest]
            for seed in comparison.seeds
            if rate is not None and (contest := Contest(optimizer, rate, seed)) in known
        }
        shared = [seed for seed in losses if seed in (baseline or {})]
        differences = [
            100 * (losses[seed].report / baseline[seed].report - 1)
            for seed in shared
            if baseline is not None and math.isfinite(baseline[seed].report)
        ]
        found.append(
            Row(
                optimizer,
                rates,
                rate,
                rate in (min(rates), max(rates)),
                all(Contest(optimizer, r, comparison.seeds[0]) in known for r in rates),
                losses,
                differences,
            )
        )
        baseline = losses if baseline is None else baseline
    return found


def markdown(rows: Sequence[Row]) -> str:
    """Return the table as Markdown, followed by an explanation."""
    lines = [
        f"| {' | '.join(HEADS)} |",
        f"|{'---|' * len(HEADS)}",
        *(f"| {' | '.join(cells(row))} |" for row in rows),
        "",
        "Loss on the half of the validation images that was not used to select the "
        'learning rates. Lower is better. "Against the first" is the mean of the '
        "differences between runs with the same seed, with its 95 % interval. If "
        "the interval contains 0, there is no significant difference.",
    ]
    return "\n".join(lines) + "\n"


def cells(row: Row) -> Iterator[str]:
    """Return the cells of a row as text."""
    yield row.optimizer
    yield str(len(row.rates))
    if row.rate is None or not row.losses:
        reason = "every rate diverged" if row.swept else "not all rates were run"
        yield from (f"none: {reason}", "0", "-", "-", "-", "-")
        return
    yield f"{row.rate:g}{' (edge)' if row.at_edge else ''}"
    yield str(len(row.losses))
    finals = [loss.report for loss in row.losses.values()]
    middle = statistics.fmean(finals)
    yield f"{middle:.4f} ({min(finals):.4f}-{max(finals):.4f})"
    yield " ".join(_interval(row.differences)) if row.differences else "-"
    ranks = [
        loss.effective_rank
        for loss in row.losses.values()
        if loss.effective_rank is not None
    ]
    yield f"{statistics.fmean(ranks):.1f}" if ranks else "-"
    yield f"{statistics.fmean(loss.seconds for loss in row.losses.values()):.0f} s"


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the results as JSON data. The losses of diverged runs are null."""
    return [
        {
            "optimizer": row.optimizer,
            "rates": list(row.rates),
            "best_rate": row.rate,
            "at_edge": row.at_edge,
            "loss_by_seed": {
                str(seed): _finite(loss.report) for seed, loss in row.losses.items()
            },
            "percent_against_first": [_finite(value) for value in row.differences],
        }
        for row in rows
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def paired_interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % confidence interval of the mean of 2 to 10 paired differences.

    Based on Student's t-distribution.
    """
    count = len(differences)
    middle = statistics.fmean(differences)
    half = T_95[count - 2] * statistics.stdev(differences) / count**0.5
    return middle - half, middle + half


def _interval(differences: Sequence[float]) -> Iterator[str]:
    yield f"{statistics.fmean(differences):+.2f} %"
    if len(differences) < 2:
        yield "(not significant with one seed)"
    elif math.isfinite(sum(differences)):
        low, high = paired_interval(differences)
        yield f"({low:+.2f} to {high:+.2f})"

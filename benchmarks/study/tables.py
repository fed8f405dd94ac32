"""Tables of the study, from rows alone."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from demo_runs import Job, Rows
from one_run import NUMERICS, halves_of
from stages import BASES, SEEDS, Cell, Stage

from stiefel_lora.jobs.comparison_table import paired_interval

__all__ = [
    "fill_page",
    "fill_table",
    "interval_text",
    "paired_interval",
    "paired_lines",
    "report",
]

T = TypeVar("T")


def fill_page(text: str, stages: Mapping[str, Stage], done: Rows) -> str:
    """Put the table of each stage between its two marks on a page.

    The marks are ``<!-- study NAME -->`` and ``<!-- end -->``.
    """
    for name, stage in stages.items():
        text = fill_table(text, name, _table(stage, done, finished=True))
    return text


def fill_table(text: str, name: str, table: Sequence[str]) -> str:
    """Put one table between its two marks, if the page has them."""
    head = f"<!-- study {name} -->"
    if head not in text:
        return text
    before, rest = text.split(head, 1)
    after = rest.split("<!-- end -->", 1)[1]
    return f"{before}{head}\n" + "\n".join(table) + f"\n<!-- end -->{after}"


def paired_lines(
    done: Rows,
    methods: Mapping[str, T],
    job_of: Callable[[Rows, str, T, int], Job | None],
    line: Callable[[str, str, dict[int, dict], dict[int, dict]], str],
) -> list[str]:
    """One line per base and method, beside the rows of the first method.

    Args:
        done: finished runs.
        methods: methods to compare by label; the first one is the baseline.
        job_of: function that returns the job of a base, method and seed, or None.
        line: function of base, label, rows by seed and rows of the baseline.
    """
    lines = []
    for base in BASES:
        rows = {}
        for label, method in methods.items():
            jobs = {seed: job_of(done, base, method, seed) for seed in SEEDS}
            found = {seed: done.get(job.key) for seed, job in jobs.items() if job}
            rows[label] = {
                seed: r for seed, r in found.items() if r and r["numerics"] == NUMERICS
            }
        rival = rows[next(iter(methods))]
        lines += [line(base, label, own, rival) for label, own in rows.items() if own]
    return lines


def report(stage: Stage, done: Rows) -> str:
    """One stage as Markdown."""
    lines = [
        f"## {stage.title}",
        "",
        "Loss on the half of the validation images that no rate was chosen on; lower "
        "is better. Risen: the final loss above the lowest of the run. Against "
        f"{stage.baseline.shown}: paired by seed, each at its own best rate, with the "
        "95 % interval. Rate of rank 16: final loss at the rate that was best there.",
        "",
        *_table(stage, done),
    ]
    return "\n".join(lines) + "\n"


def _table(stage: Stage, done: Rows, *, finished: bool = False) -> list[str]:
    """A line a cell; with ``finished`` only those whose sweep is complete."""
    cells = [cell for cell in stage.cells if not finished or cell.best(done)]
    return [
        "| task | base | rank | steps | method | rates | best rate | seeds "
        f"| final loss | risen | against {stage.baseline.shown} "
        "| rate of rank 16 (seed 1) | effective rank |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(_line(cell, stage, done) for cell in cells),
    ]


def _line(cell: Cell, stage: Stage, done: Rows) -> str:
    rates = [r for r in cell.sweep(done) if not math.isnan(cell.chosen_on(done, r))]
    head = (
        f"| {cell.task} | {cell.base} | {cell.rank} | {cell.steps} "
        f"| {cell.method.shown} "
    )
    best = cell.best(done)
    if best is None:
        return head + f"| {len(rates)} | not run | - | not run | - | - | - | - |"
    rows = cell.rows(done, best)
    finals = [halves_of(row, cell.task)[1] for row in rows.values()]
    risen = [_risen(row) for row in rows.values()]
    ranks = [row.get("effective_rank_mean", math.nan) for row in rows.values()]
    at_edge = best in (min(rates), max(rates))
    return head + (
        f"| {len(rates)} | {best:.3g}{' (edge)' if at_edge else ''} | {len(rows)} "
        f"| {statistics.fmean(finals):.4f} ({min(finals):.4f}-{max(finals):.4f}) "
        f"| {statistics.fmean(risen):.2f} % | {_difference(cell, stage, done)} "
        f"| {_at_rate_of_rank_16(cell, done)} | {statistics.fmean(ranks):.1f} |"
    )


def _risen(row: dict) -> float:
    """By how many percent the end of the curve lies above its lowest point."""
    if row.get("diverged"):
        return math.inf
    curve = [sum(halves) for halves in row["curve"]]
    return 100 * (curve[-1] / min(curve) - 1)


def _at_rate_of_rank_16(cell: Cell, done: Rows) -> str:
    """Loss of the first seed at the rate that was best at rank 16."""
    rate = dataclasses.replace(cell, rank=16).best(done)
    row = cell.rows(done, rate).get(SEEDS[0]) if rate else None
    return f"{halves_of(row, cell.task)[1]:.4f}" if row else "not run"


def _difference(cell: Cell, stage: Stage, done: Rows) -> str:
    rival = _rival(cell, stage)
    if rival is None:
        return "-"
    best, rate = cell.best(done), rival.best(done)
    if best is None or rate is None:
        return "not run"
    own, other = cell.rows(done, best), rival.rows(done, rate)
    differences = [
        100
        * (
            halves_of(own[seed], cell.task)[1] / halves_of(other[seed], cell.task)[1]
            - 1
        )
        for seed in own
        if seed in other
    ]
    return " ".join(interval_text(differences))


def _rival(cell: Cell, stage: Stage) -> Cell | None:
    """The baseline's cell of the same column, whatever its rates; None for itself."""
    places = ("base", "rank", "steps", "task")
    for other in stage.cells:
        same = all(getattr(other, name) == getattr(cell, name) for name in places)
        if same and other.method == stage.baseline != cell.method:
            return other
    return None


def interval_text(differences: list[float]) -> Iterator[str]:
    """Mean of paired differences in percent, and its interval."""
    yield f"{statistics.fmean(differences):+.2f} %"
    if len(differences) < 2:
        yield "(one seed, not a quality claim)"
        return
    low, high = paired_interval(differences)
    yield f"({low:+.2f} to {high:+.2f})"

"""Tables of ``stiefel-lora lora inspect``. Requires rich."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table

from ..._wording import printable
from .inspection import LayerReport, LoraReport
from .inspection_facts import (
    SUMMARY_HEADS,
    defects_of,
    facts_of,
    number_text,
    summary_cells,
)

__all__ = ["inspection_tables"]

_MOST = 12
# More files have a row each, because their columns would not fit.
_MOST_COLUMNS = 6
_ROW_FACTS = (
    *("family", "key format", "rank", "size", "mean effective rank"),
    *("norm of the update", "spikes, dead, not finite"),
)


class _Table(Table):
    """Table without control characters from files in its cells."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row. Control characters are written as escapes."""
        super().add_row(*map(printable, cells), **options)


def inspection_tables(
    reports: Sequence[LoraReport], *, layers: bool = False
) -> Iterator[Table | str]:
    """Create the tables for one or more files.

    Args:
        reports: results of :func:`inspect_lora`.
        layers: whether to show a row per layer instead of a row per section.
    """
    names = [printable(name) for name in _short_names(reports)]
    many = len(reports) > _MOST_COLUMNS
    yield _row_each(reports, names) if many else _files(reports, names)
    if many:
        yield (
            f"Sections and layers are shown for up to {_MOST_COLUMNS} files. Use "
            "--json or --html for more."
        )
    elif len(reports) > 1:
        yield _side_by_side(reports, names, layers)
    elif layers:
        yield _layers(reports[0])
    else:
        yield _sections(reports[0])
    for name, report in zip(names, reports, strict=True):
        start = f"{name}: " if len(reports) > 1 else ""
        yield from map(printable, _faults(report, start))


def _files(reports: Sequence[LoraReport], names: Sequence[str]) -> Table:
    facts = [facts_of(report) for report in reports]
    labels = dict.fromkeys(label for found in facts for label in found)
    table = _Table("", *names)
    for label in labels:
        table.add_row(label, *(found.get(label, "") for found in facts))
    return table


def _row_each(reports: Sequence[LoraReport], names: Sequence[str]) -> Table:
    table = _Table("File", *_ROW_FACTS)
    for name, report in zip(names, reports, strict=True):
        found = facts_of(report)
        table.add_row(name, *(found.get(label, "") for label in _ROW_FACTS))
    return table


def _sections(report: LoraReport) -> Table:
    table = _Table("Section", *SUMMARY_HEADS)
    for name, part in report.sections.items():
        table.add_row(name, *summary_cells(part))
    table.add_section()
    table.add_row("all", *summary_cells(report.total))
    return table


def _layers(report: LoraReport) -> Table:
    table = _Table(
        "Layer",
        *("Shape", "Rank", "Alpha", "Effective", "Stable", "k95", "sigma_1", "Norm"),
        *("/ median", ""),
    )
    for layer in report.layers:
        table.add_row(
            layer.name,
            "x".join(map(str, layer.shape)),
            str(layer.rank),
            f"{layer.alpha:g}",
            number_text(layer.effective_rank),
            number_text(layer.stable_rank),
            str(layer.k95),
            number_text(layer.sigma_1),
            number_text(layer.norm),
            "" if layer.spike is None else f"{layer.spike:.2f}",
            _fault(layer),
        )
    return table


def _side_by_side(
    reports: Sequence[LoraReport], names: Sequence[str], layers: bool
) -> Table:
    """Create a table with the norms and effective ranks of several files."""
    cells: dict[str, dict[int, str]] = {}
    for place, report in enumerate(reports):
        if layers:
            found = {
                layer.key: (row.name, row.norm, row.effective_rank)
                for layer, row in zip(report.file.layers, report.layers, strict=True)
            }
        else:
            found = {
                name: (name, part.norm, part.effective_rank)
                for name, part in report.sections.items()
            }
        for key, (_, norm, rank) in found.items():
            cells.setdefault(key, {})[place] = (
                f"{number_text(norm)} ({number_text(rank)})"
            )
    table = _Table(
        "Layer" if layers else "Section",
        *names,
        title="Norm of the update (effective rank)",
    )
    for key, found_cells in cells.items():
        row = [found_cells.get(place, "") for place in range(len(reports))]
        table.add_row(key.removeprefix("model:"), *row)
    return table


def _faults(report: LoraReport, prefix: str) -> Iterator[str]:
    for remark in report.remarks:
        yield prefix + remark
    for label, names in defects_of(report).items():
        more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
        yield f"{prefix}{label}: {', '.join(names[:_MOST])}{more}"


def _fault(layer: LayerReport) -> str:
    if not layer.is_finite:
        return "not finite"
    if layer.is_dead:
        return "dead"
    return "spike" if layer.is_spike else ""


def _short_names(reports: Sequence[LoraReport]) -> list[str]:
    names = [report.file.path.name for report in reports]
    if len(set(names)) == len(names):
        return names
    return [str(report.file.path) for report in reports]

"""Summary of a LoRA file as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .inspection import LoraReport, Summary

__all__ = [
    "SUMMARY_HEADS",
    "defects_of",
    "facts_of",
    "number_text",
    "share_text",
    "summary_cells",
]

SUMMARY_HEADS = (
    *("Layers", "Rank", "Effective", "Stable", "Share", "sigma_1", "Norm"),
    *("Spikes", "Dead"),
)
"""Columns of ``summary_cells``."""

_MOST = 12


def facts_of(report: LoraReport) -> dict[str, str]:
    """Return a summary of a file as texts by label."""
    file, total, broken = report.file, report.total, len(report.not_finite)
    facts = {
        "family": file.label or "unknown",
        "key format": file.spelling,
        "adapter": _counted(file.kinds),
        "rank": _counted(report.ranks),
        "alpha": _counted({f"{a:g}": n for a, n in report.alphas.items()}),
        "dtype": _counted(file.dtypes),
        "size": f"{file.size / 1e6:.2f} MB",
        **_hashes(report),
        "trigger words": ", ".join(report.trigger_words),
        "folders and frequent tags": ", ".join(report.frequent_tags),
        **report.notes,
        "unknown keys": file.unknown_text,
        **(_statistics(total) if report.layers else {}),
        "spikes, dead, not finite": f"{total.spikes}, {total.dead}, {broken}",
    }
    return {label: text for label, text in facts.items() if text}


def _hashes(report: LoraReport) -> dict[str, str]:
    found = report.hashes
    if found is None:
        return {}
    return {
        "AutoV2, AutoV3": f"{found.autov2}, {found.autov3}",
        "sshs_model_hash": found.model,
        "sshs_legacy_hash": found.legacy,
    }


def _statistics(total: Summary) -> dict[str, str]:
    return {
        "norm of the update": number_text(total.norm),
        "largest sigma_1": number_text(total.sigma_1),
        "mean effective rank": number_text(total.effective_rank),
        "mean share of the rank": share_text(total.share),
    }


def defects_of(report: LoraReport) -> dict[str, Sequence[str]]:
    """Return the names of layers with defects, by label of the defect."""
    found: dict[str, Sequence[str]] = {
        "Spikes": [layer.name for layer in report.layers if layer.is_spike],
        "Dead": [layer.name for layer in report.layers if layer.is_dead],
        "NaN or infinity": report.not_finite,
    }
    return {label: names for label, names in found.items() if names}


def summary_cells(part: Summary) -> list[str]:
    """Format the statistics of a section for the table and the page."""
    return [
        str(part.layers),
        number_text(part.rank),
        number_text(part.effective_rank),
        number_text(part.stable_rank),
        share_text(part.share),
        number_text(part.sigma_1),
        number_text(part.norm),
        str(part.spikes or ""),
        str(part.dead or ""),
    ]


def _counted(counts: Mapping[Any, int]) -> str:
    """Format counts, such as ``16`` or ``16 (700), 8 (40)``."""
    if len(counts) == 1:
        return str(next(iter(counts)))
    shown = [f"{value} ({count})" for value, count in counts.items()]
    more = [f"{len(shown) - _MOST} more"] if len(shown) > _MOST else []
    return ", ".join(shown[:_MOST] + more)


def number_text(value: float) -> str:
    """Format a number with four digits, or as NaN."""
    return f"{value:.4g}" if math.isfinite(value) else "NaN"


def share_text(value: float) -> str:
    """Format a share in percent, or as NaN."""
    return f"{value:.1%}" if math.isfinite(value) else "NaN"

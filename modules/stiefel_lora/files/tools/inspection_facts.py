"""Summary of a LoRA file as readable text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .inspection import LoraReport

__all__ = ["defects_of", "facts_of", "number_text"]

_MOST = 12


def facts_of(report: LoraReport) -> dict[str, str]:
    """Summarize a file as label -> text."""
    file, total, broken = report.file, report.total, len(report.not_finite)
    facts = {
        "family": file.family or "unknown",
        "key format": file.spelling,
        "adapter": _counted(file.kinds),
        "rank": _counted(report.ranks),
        "alpha": _counted({f"{a:g}": n for a, n in report.alphas.items()}),
        "dtype": _counted(file.dtypes),
        "size": f"{file.size / 1e6:.2f} MB",
        "trigger words": ", ".join(report.trigger_words),
        **report.notes,
        "unknown keys": file.unknown_text,
        "norm of the update": number_text(total.norm),
        "largest sigma_1": number_text(total.sigma_1),
        "mean effective rank": number_text(total.effective_rank),
        "mean share of the rank": f"{total.share:.1%}",
        "spikes, dead, not finite": f"{total.spikes}, {total.dead}, {broken}",
    }
    return {label: text for label, text in facts.items() if text}


def defects_of(report: LoraReport) -> dict[str, Sequence[str]]:
    """Return the layers of each defect as label -> names; only defects that occur."""
    found: dict[str, Sequence[str]] = {
        "Spikes": [layer.name for layer in report.layers if layer.is_spike],
        "Dead": [layer.name for layer in report.layers if layer.is_dead],
        "NaN or infinity": report.not_finite,
    }
    return {label: names for label, names in found.items() if names}


def _counted(counts: Mapping[Any, int]) -> str:
    """Format counts: ``16`` for one value, ``16 (700), 8 (40)`` for several."""
    if len(counts) == 1:
        return str(next(iter(counts)))
    shown = [f"{value} ({count})" for value, count in counts.items()]
    more = [f"{len(shown) - _MOST} more"] if len(shown) > _MOST else []
    return ", ".join(shown[:_MOST] + more)


def number_text(value: float) -> str:
    """Format a number with four digits, or as NaN."""
    return f"{value:.4g}" if math.isfinite(value) else "NaN"

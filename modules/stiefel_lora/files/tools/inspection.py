"""Ranks, norms and defects of the layers of a LoRA file.

All statistics are those of the update (alpha / r) B A, and are computed from r x r
matrices in float64 (see :mod:`stiefel_lora.geometry.spectrum`). DoRA scales are
ignored, because they require the base model.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from ...geometry import product_singular_values, spectrum_summary
from ..file_hashes import FileHashes, file_hashes
from .finite_layers import broken_layers, is_finite
from .lora_file import LoraFile, LoraLayer
from .notes import frequent_tags, training_notes, trigger_words
from .one_thread import one_thread
from .save_lora import NO_EFFECT
from .sections import layer_kind, section_of

__all__ = ["LayerReport", "LoraReport", "Summary", "inspect_lora", "summarize"]

SPIKE = 5.0
"""Minimum ratio of sigma_1 to the median of similar layers for a spike."""

OTHER_HASH = (
    "The sshs_model_hash in the metadata is not that of the weights, so A1111, Forge "
    "and CivitAI identify the file as different ones. stiefel-lora lora convert writes "
    "the hash of the weights."
)

# With fewer layers, the median does not describe the typical value.
_FEWEST = 4


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """Statistics of a layer. They are NaN if a factor contains NaN or infinity."""

    name: str
    section: str
    kind: str
    shape: tuple[int, ...]
    """Shape of the weight: outputs, inputs and kernel size."""

    rank: int
    """Rank of the stored factors."""

    alpha: float
    effective_rank: float
    stable_rank: float
    k95: int
    sigma_1: float
    """Spectral norm of the update."""

    norm: float
    """Frobenius norm of the update."""

    spike: float | None
    """Ratio of sigma_1 to the median of similar layers, if there are at least 4."""

    spectrum: tuple[float, ...]
    """Singular values in descending order."""

    dtype: str
    size: int
    """Size in bytes."""

    @property
    def is_finite(self) -> bool:
        """Return whether all values of the factors are finite."""
        return math.isfinite(self.norm)

    @property
    def is_dead(self) -> bool:
        """Return whether the update of the layer is zero."""
        return self.norm == 0

    @property
    def is_spike(self) -> bool:
        """Return whether sigma_1 is much larger than in similar layers."""
        return self.spike is not None and self.spike >= SPIKE


@dataclasses.dataclass(frozen=True)
class Summary:
    """Statistics of several layers. Layers with NaN or infinity are ignored."""

    layers: int
    rank: float
    """Mean rank."""

    effective_rank: float
    stable_rank: float
    share: float
    """Mean of effective rank / rank."""

    sigma_1: float
    """Maximum of sigma_1 of all layers."""

    norm: float
    """Total Frobenius norm of all updates."""

    spikes: int
    dead: int
    not_finite: int


@dataclasses.dataclass(frozen=True)
class LoraReport:
    """Result of :func:`inspect_lora`."""

    file: LoraFile
    layers: tuple[LayerReport, ...]
    total: Summary
    sections: Mapping[str, Summary]
    trigger_words: tuple[str, ...]
    """Trigger phrase of the metadata."""

    notes: Mapping[str, str]
    not_finite: tuple[str, ...] = ()
    """Names of all layers with NaN or infinity, including other adapters."""

    frequent_tags: tuple[str, ...] = ()
    """Names of image folders and the most frequent tags of the captions."""

    hashes: FileHashes | None = None
    """Hashes by which other programs identify the file."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return messages about the file."""
        found = list(self.file.remarks)
        plain = not any(layer.factors.is_dora for layer in self.file.layers)
        if self.layers and plain and all(layer.is_dead for layer in self.layers):
            found.append(NO_EFFECT)
        noted = self.file.metadata.get("sshs_model_hash")
        if self.hashes is not None and noted not in (None, self.hashes.model):
            found.append(OTHER_HASH)
        return tuple(found)

    @property
    def ranks(self) -> dict[int, int]:
        """Return the number of layers of each rank, most frequent first."""
        found = collections.Counter(layer.rank for layer in self.layers)
        return dict(found.most_common())

    @property
    def alphas(self) -> dict[float, int]:
        """Return the number of layers of each alpha, most frequent first."""
        found = collections.Counter(layer.alpha for layer in self.layers)
        return dict(found.most_common())

    def to_json(self) -> dict[str, Any]:
        """Convert the report to JSON values. NaN and infinity are null."""
        file = self.file
        return {
            "path": str(file.path),
            "family": file.label,
            "key_format": file.spelling,
            "kinds": file.kinds,
            "dtypes": file.dtypes,
            "size": file.size,
            "hashes": self.hashes.to_json() if self.hashes else None,
            "trigger_words": list(self.trigger_words),
            "frequent_tags": list(self.frequent_tags),
            "training": dict(self.notes),
            "metadata": dict(file.metadata),
            "remarks": list(self.remarks),
            "unknown_keys": sorted(file.unknown),
            "not_finite": list(self.not_finite),
            "other_layers": [{"name": o.name, "kind": o.kind} for o in file.others],
            "total": _plain(dataclasses.asdict(self.total)),
            "sections": {
                name: _plain(dataclasses.asdict(summary))
                for name, summary in self.sections.items()
            },
            "layers": [_plain(dataclasses.asdict(layer)) for layer in self.layers],
        }


@torch.no_grad()
@one_thread()
def inspect_lora(file: LoraFile) -> LoraReport:
    """Compute the statistics of every layer of a LoRA file."""
    measured = [_measured(layer) for layer in file.layers]
    usual = _usual_sigma(file.layers, measured)
    layers = tuple(
        dataclasses.replace(report, spike=_ratio(report.sigma_1, usual.get(kind)))
        for report, kind in zip(measured, map(_kind, file.layers), strict=True)
    )
    sections: dict[str, list[LayerReport]] = {}
    for layer in layers:
        sections.setdefault(layer.section, []).append(layer)
    return LoraReport(
        file=file,
        layers=layers,
        total=summarize(layers),
        sections={name: summarize(sections[name]) for name in _ordered(sections)},
        trigger_words=tuple(trigger_words(file.metadata)),
        notes=training_notes(file.metadata),
        not_finite=tuple(broken_layers(file)),
        frequent_tags=tuple(frequent_tags(file.metadata)),
        hashes=file_hashes(file.path) if file.path.is_file() else None,
    )


def summarize(layers: Iterable[LayerReport]) -> Summary:
    """Summarize the statistics of several layers."""
    layers = list(layers)
    finite = [layer for layer in layers if layer.is_finite]
    return Summary(
        layers=len(layers),
        rank=_mean([float(layer.rank) for layer in layers]),
        effective_rank=_mean([layer.effective_rank for layer in finite]),
        stable_rank=_mean([layer.stable_rank for layer in finite]),
        share=_mean([layer.effective_rank / layer.rank for layer in finite]),
        sigma_1=max((layer.sigma_1 for layer in finite), default=math.nan),
        norm=math.hypot(*(layer.norm for layer in finite)),
        spikes=sum(layer.is_spike for layer in finite),
        dead=sum(layer.is_dead for layer in finite),
        not_finite=len(layers) - len(finite),
    )


def _measured(layer: LoraLayer) -> LayerReport:
    factors = layer.factors
    up, down = factors.up.flatten(1), factors.down.flatten(1)
    values = product_singular_values(up, down) * abs(factors.scale)
    if not is_finite(layer):
        values = torch.full_like(values, math.nan)
    summary = spectrum_summary(values)
    return LayerReport(
        name=layer.name,
        section=section_of(layer.key),
        kind=layer.kind,
        shape=(factors.up.shape[0], *factors.down.shape[1:]),
        rank=layer.stored_rank,
        alpha=factors.scale * layer.stored_rank,
        effective_rank=float(summary.effective),
        stable_rank=float(summary.stable),
        k95=int(summary.k95),
        sigma_1=float(values[0]),
        norm=float(values.norm()),
        spike=None,
        spectrum=tuple(values.tolist()),
        dtype=str(layer.dtype).removeprefix("torch."),
        size=layer.size,
    )


def _kind(layer: LoraLayer) -> tuple[str, int, int]:
    factors = layer.factors
    return layer_kind(layer.key), factors.up.shape[0], factors.down.shape[1]


def _usual_sigma(
    layers: Iterable[LoraLayer], reports: Iterable[LayerReport]
) -> dict[tuple[str, int, int], float]:
    """Compute the median of sigma_1 of similar layers."""
    found: dict[tuple[str, int, int], list[float]] = {}
    for layer, report in zip(layers, reports, strict=True):
        if report.is_finite and not report.is_dead:
            found.setdefault(_kind(layer), []).append(report.sigma_1)
    return {
        kind: statistics.median(values)
        for kind, values in found.items()
        if len(values) >= _FEWEST
    }


def _ratio(sigma: float, usual: float | None) -> float | None:
    return None if usual is None else sigma / usual


def _ordered(sections: Iterable[str]) -> list[str]:
    """Return a sort key for names with numbers."""

    def place(name: str) -> tuple[str, int]:
        blocks, _, number = name.rpartition(".")
        return (blocks, int(number)) if number.isdigit() else (name, -1)

    return sorted(sections, key=place)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

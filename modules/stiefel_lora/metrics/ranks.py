"""Measurement of the effective rank of every LoRA block.

Blocks of one shape are stacked, so a measurement is a few batched products and one
batch of small eigenvalue problems, not one call per block.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import torch

from ..geometry import (
    orthogonality_error,
    product_singular_values,
    spectrum_summary,
)
from ..optim.engine.stacking import bucketed, chunked
from ..optim.pairs import Pair
from .tags import (
    EFFECTIVE,
    LOWEST_RANK,
    MAGNITUDE_CHANGE,
    MEAN_RANK,
    ORTHOGONALITY,
    SHARE_OF_RANK,
    STABLE,
    tag_of,
)

__all__ = ["RankReport", "measure_ranks"]

# Elements of the stacked factors at a time. On a CPU, their 8 MB in float64 stay in the
# cache; on other devices, few launches matter more.
_CHUNK_ELEMENTS = {"cpu": 1 << 20}
_CHUNK_ELSEWHERE = 1 << 25


@dataclasses.dataclass(frozen=True)
class RankReport:
    """Ranks of all blocks, in the order of the model.

    A block whose factors are not finite has ranks of NaN. Summaries are over the other
    blocks, and NaN if there are none.
    """

    names: list[str]
    ranks: list[int]
    """Rank r of each block."""

    effective: list[float]
    """Entropy rank of B A, or 0 for a product that is still zero."""

    stable: list[float]
    constrained: list[str]
    """Names of the blocks whose B should be orthonormal."""

    orthogonality: list[float]
    """Largest entry of \\|B^T B - I\\| of each of these."""

    magnitude_changes: list[float]
    """Change of each layer by the magnitudes of a DoRA. Empty without DoRA."""

    @property
    def mean(self) -> float:
        """Mean effective rank."""
        return _mean(self._finite())

    @property
    def lowest(self) -> float:
        """Smallest effective rank."""
        return min(self._finite(), default=math.nan)

    @property
    def share(self) -> float:
        """Mean of effective rank / rank, in [0, 1]."""
        shares = [e / r for e, r in zip(self.effective, self.ranks, strict=True)]
        return _mean([share for share in shares if math.isfinite(share)])

    def _finite(self) -> list[float]:
        return [rank for rank in self.effective if math.isfinite(rank)]

    def scalars(self) -> dict[str, float]:
        """Every number by tag: summaries, then one curve per block."""
        values = {
            MEAN_RANK: self.mean,
            LOWEST_RANK: self.lowest,
            SHARE_OF_RANK: self.share,
        }
        for kind, names, numbers in (
            (EFFECTIVE, self.names, self.effective),
            (STABLE, self.names, self.stable),
            (ORTHOGONALITY, self.constrained, self.orthogonality),
            (MAGNITUDE_CHANGE, self.names, self.magnitude_changes),
        ):
            if not numbers:
                continue
            if kind in (ORTHOGONALITY, MAGNITUDE_CHANGE):
                values[f"{kind}/largest"] = max(numbers)
            for name, number in zip(names, numbers, strict=True):
                values[tag_of(kind, name)] = number
        return values


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


@torch.no_grad()
def measure_ranks(
    pairs: Sequence[Pair],
    constrained: Sequence[Pair] = (),
    magnitude_changes: Sequence[float] = (),
) -> RankReport:
    """Measure all blocks.

    Args:
        pairs: LoRA blocks, where B A is the update of the layer.
        constrained: the blocks, as they are trained, whose B should be orthonormal; the
            report includes their error of orthonormality.
        magnitude_changes: relative changes of DoRA magnitudes to include in the report.
    """
    effective, stable = [0.0] * len(pairs), [0.0] * len(pairs)
    for chunk in _stackable(pairs):
        up = torch.stack([pairs[i].matrices[0].detach() for i in chunk])
        down = torch.stack([pairs[i].matrices[1].detach() for i in chunk])
        summary = spectrum_summary(product_singular_values(up, down))
        for place, i in enumerate(chunk):
            effective[i] = float(summary.effective[place])
            stable[i] = float(summary.stable[place])
    errors = [0.0] * len(constrained)
    for chunk in _stackable(constrained):
        up = torch.stack([constrained[i].matrices[0].detach() for i in chunk])
        for i, error in zip(chunk, orthogonality_error(up).tolist(), strict=True):
            errors[i] = error
    return RankReport(
        names=[pair.name for pair in pairs],
        ranks=[pair.rank for pair in pairs],
        effective=effective,
        stable=stable,
        constrained=[pair.name for pair in constrained],
        orthogonality=errors,
        magnitude_changes=list(magnitude_changes),
    )


def _stackable(pairs: Sequence[Pair]) -> Iterator[list[int]]:
    """Yield the indices of pairs of one shape, in chunks of bounded memory."""

    def shape(i: int) -> tuple[object, ...]:
        up, down = pairs[i].matrices
        return up.shape, down.shape, up.device

    for bucket in bucketed(range(len(pairs)), shape):
        up, down = pairs[bucket[0]].matrices
        limit = _CHUNK_ELEMENTS.get(up.device.type, _CHUNK_ELSEWHERE)
        yield from chunked(bucket, up.numel() + down.numel(), limit)

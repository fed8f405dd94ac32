"""Measurement of the effective rank of every LoRA block.

On a GPU, blocks of the same shape are stacked, so that a measurement needs a few
batched operations instead of one call per block. Each Gram matrix is used for both the
singular values and the deviation of B from orthonormality.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import torch

from ..geometry import gram_matrices, product_spectrum, spectrum_summary
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

# Elements of the stacked factors at a time, where launches cost more than copies.
_CHUNK_ELEMENTS = 1 << 25


@dataclasses.dataclass(frozen=True)
class RankReport:
    """Ranks of all blocks, in the order of the model.

    Ranks are NaN for blocks with NaN or infinity in a factor. Summaries ignore these
    blocks, and are NaN if there are no other blocks.
    """

    names: list[str]
    ranks: list[int]
    """Rank r of each block."""

    effective: list[float]
    """Effective rank of B A of each block. It is 0 if the product is zero."""

    stable: list[float]
    constrained: list[str]
    """Names of the blocks whose B should be orthonormal."""

    orthogonality: list[float]
    """Largest entry of \\|B^T B - I\\| of each of the blocks in ``constrained``."""

    magnitude_changes: list[float]
    """Relative change of each layer by DoRA magnitudes. Empty without DoRA."""

    spectrum: list[float] = dataclasses.field(default_factory=list)
    """Mean over blocks of each singular value divided by their sum, descending."""

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
        """Return all values by tag: summaries, then one curve per block."""
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
    """Measure the ranks of all blocks.

    Args:
        pairs: LoRA pairs whose product B A is the update of the layer.
        constrained: trained pairs whose B should be orthonormal. The report includes
            their deviation from orthonormality.
        magnitude_changes: relative changes of DoRA magnitudes to include in the report.
    """
    effective, stable = [0.0] * len(pairs), [0.0] * len(pairs)
    ups = [pair.matrices[0].detach() for pair in pairs]
    downs = [pair.matrices[1].detach().mT for pair in pairs]
    known: dict[int, torch.Tensor] = {}
    shares: list[torch.Tensor] = []
    # One call for all blocks of a rank: LAPACK solves small problems one by one anyway,
    # but the operations around it are as many as the calls.
    for same in bucketed(range(len(pairs)), lambda i: pairs[i].rank):
        left, right = (_grams([side[i] for i in same]) for side in (ups, downs))
        known |= {id(pairs[i].up): gram for i, gram in zip(same, left, strict=True)}
        sigma = product_spectrum(left, right)
        shares.append(sigma / sigma.sum(-1, keepdim=True))
        summary = spectrum_summary(sigma)
        found = summary.effective.tolist(), summary.stable.tolist()
        for i, entropy, energy in zip(same, *found, strict=True):
            effective[i], stable[i] = entropy, energy
    errors = _orthogonality(constrained, known)
    return RankReport(
        names=[pair.name for pair in pairs],
        ranks=[pair.rank for pair in pairs],
        effective=effective,
        stable=stable,
        constrained=[pair.name for pair in constrained],
        orthogonality=errors,
        magnitude_changes=list(magnitude_changes),
        spectrum=_mean_spectrum(shares),
    )


def _mean_spectrum(shares: Sequence[torch.Tensor]) -> list[float]:
    """Return the means of spectra ``(K, r)`` of several r over those that have one."""
    longest = max((found.shape[-1] for found in shares), default=0)
    rows = [
        torch.nn.functional.pad(found, (0, longest - found.shape[-1]), value=math.nan)
        for found in shares
    ]
    # NaN also for blocks without an update, whose values are all 0.
    means = torch.cat(rows).nanmean(0).tolist() if rows else []
    return [mean for mean in means if math.isfinite(mean)]


def _orthogonality(
    constrained: Sequence[Pair], known: dict[int, torch.Tensor]
) -> list[float]:
    """Return the largest entry of |B^T B - I| of each pair.

    ``known`` has B^T B by the id of B, as far as the spectra needed it.
    """
    errors = [0.0] * len(constrained)
    for same in bucketed(range(len(constrained)), lambda i: constrained[i].rank):
        new = [i for i in same if id(constrained[i].up) not in known]
        if new:
            grams = _grams([constrained[i].matrices[0].detach() for i in new])
            ids = (id(constrained[i].up) for i in new)
            known = known | dict(zip(ids, grams, strict=True))
        gram = torch.stack([known[id(constrained[i].up)] for i in same])
        identity = torch.eye(gram.shape[-1], dtype=gram.dtype)
        largest = (gram - identity).abs().amax((-2, -1)).tolist()
        for i, error in zip(same, largest, strict=True):
            errors[i] = error
    return errors


def _grams(columns: Sequence[torch.Tensor]) -> torch.Tensor:
    """Gram matrices of matrices ``(m, r)`` with one r, in their order."""
    chunks = list(_stackable(columns))
    stacks = [
        torch.stack([columns[i] for i in chunk])
        if len(chunk) > 1
        # Not a copy: the reading of all factors is a good part of the time.
        else columns[chunk[0]].unsqueeze(0)
        for chunk in chunks
    ]
    order = torch.tensor([i for chunk in chunks for i in chunk])
    return gram_matrices(stacks)[order.argsort()]


def _stackable(columns: Sequence[torch.Tensor]) -> Iterator[list[int]]:
    """Yield the indices of matrices of one shape, in chunks of bounded memory."""

    def kind(i: int) -> tuple[object, ...]:
        return columns[i].shape, columns[i].dtype, columns[i].device

    for bucket in bucketed(range(len(columns)), kind):
        first = columns[bucket[0]]
        limit = 1 if first.device.type == "cpu" else _CHUNK_ELEMENTS
        yield from chunked(bucket, first.numel(), limit)

r"""Merge methods on the entries of the updates.

For updates :math:`w_j \Delta W_j` of a layer and a density d:

* magnitude: the fraction d of the entries with the largest magnitude is kept in each
update, and the updates are added.
* dare: of each, every entry with probability d, divided by d; then their sum (L. Yu et
al., "Language Models are Super Mario", 2023, arXiv:2311.03099). * ties: of each, the
share d with the largest magnitude. Each entry takes the sign of their sum, and the mean
of those that have this sign (P. Yadav et al., 2023, arXiv:2306.01708).

The result has full rank and is truncated to the requested rank.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..._exceptions import OptionError
from ..weights import LoraFactors
from .lora_file import LoraLayer
from .nearest_lora import Nearest, Rank, nearest_lora
from .planned import Planned, announced

__all__ = ["METHODS", "Method", "ProductPlan", "combined", "plan_products"]

METHODS = ("sum", "norm", "ties", "dare", "magnitude")
"""Names of the merge methods. The first two are exact."""


@dataclasses.dataclass(frozen=True)
class Method:
    """Merge method with its settings.

    Raises:
        OptionError: If the method is unknown, or a value is out of range.
    """

    name: str = "sum"
    """Name of the method. ``norm`` is the sum, scaled to the mean of the norms."""

    density: float = 0.5
    """Fraction of the entries that ``ties``, ``dare`` and ``magnitude`` keep."""

    seed: int = 0
    """Seed of the method ``dare``."""

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise OptionError(
                f"--method: must be one of {', '.join(METHODS)}, but got {self.name}."
            )
        if not 0 < self.density <= 1:
            raise OptionError(
                "--density: must be greater than 0 and at most 1, but got "
                f"{self.density:g}."
            )

    @property
    def on_entries(self) -> bool:
        """Return whether the method computes dense updates."""
        return self.name in ("ties", "dare", "magnitude")


@dataclasses.dataclass(frozen=True, eq=False)
class ProductPlan(Planned):
    """Plan that stores the truncation error of each layer."""

    found: dict[str, Nearest] = dataclasses.field(default_factory=dict)
    """Norm and truncation error by layer key, stored when a layer is computed."""


def plan_products(
    total: Planned,
    summands: Mapping[str, Sequence[LoraLayer]],
    method: Method,
    rank: int | None,
) -> ProductPlan:
    """Create the plan of a merge with a method on entries.

    Args:
        total: exact sum, which defines names and shapes.
        summands: layers of the files by layer key. Their alphas include the weights.
        method: ``ties``, ``dare`` or ``magnitude``.
        rank: rank of the result. The default is the rank of the exact sum.
    """
    found: dict[str, Nearest] = {}
    layers = []
    for layer in total.file.layers:
        up, down = layer.factors.up.shape, layer.factors.down.shape
        full = min(up[0], down[1:].numel())
        kept = min(layer.factors.rank if rank is None else rank, full)
        shapes = (up[0], kept, *up[2:]), (kept, *down[1:])
        factors = announced(*shapes, float(kept), torch.float32)
        layers.append(dataclasses.replace(layer, factors=factors, stored_rank=kept))
    file = dataclasses.replace(total.file, layers=tuple(layers))

    def factors_of(layer: LoraLayer) -> LoraFactors:
        updates = [_dense(own) for own in summands[layer.key]]
        seed = hashlib.sha256(f"{method.seed} {layer.key}".encode()).digest()
        whole = combined(updates, method, int.from_bytes(seed[:6], "little"))
        nearest = nearest_lora(whole, Rank(layer.factors.rank))
        small = dataclasses.replace(nearest, factors=layer.factors)
        found[layer.key] = small
        return nearest.factors

    return ProductPlan(file, factors_of, found)


def combined(updates: Sequence[Tensor], method: Method, seed: int = 0) -> Tensor:
    """Merge the weighted dense updates of a layer.

    Args:
        updates: updates of the same shape.
        method: ``ties``, ``dare`` or ``magnitude``.
        seed: seed of ``dare``.
    """
    if method.name == "dare":
        generator = torch.Generator().manual_seed(seed)
        kept = [
            torch.where(
                torch.rand(update.shape, generator=generator) < method.density,
                update / method.density,
                0.0,
            )
            for update in updates
        ]
        return torch.stack(kept).sum(0)
    kept = [_largest(update, method.density) for update in updates]
    total = torch.stack(kept).sum(0)
    if method.name == "magnitude":
        return total
    sign = total.sign()
    agreeing = [torch.where(update.sign() == sign, update, 0.0) for update in kept]
    counts = torch.stack([update != 0 for update in agreeing]).sum(0).clamp_min(1)
    return torch.stack(agreeing).sum(0) / counts


def _largest(update: Tensor, density: float) -> Tensor:
    """Keep the given fraction of the largest entries and set the others to zero."""
    count = update.numel()
    dropped = count - max(1, round(density * count))
    if dropped == 0:
        return update
    size = update.abs()
    limit = size.flatten().kthvalue(dropped).values
    kept = size > limit
    # Of entries as large as the limit, the first ones fill the share.
    missing = count - dropped - int(kept.sum())
    if missing and limit > 0:
        equal = (size == limit).flatten().nonzero().flatten()
        kept.view(-1)[equal[:missing]] = True
    return torch.where(kept, update, 0.0)


def _dense(layer: LoraLayer) -> Tensor:
    factors = layer.factors
    up, down = factors.up.flatten(1).float(), factors.down.flatten(1).float()
    shape = (up.shape[0], *factors.down.shape[1:])
    return ((up @ down) * factors.scale).reshape(shape)

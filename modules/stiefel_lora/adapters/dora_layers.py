r"""DoRA layers: W + s B A with every row rescaled to a trained norm (magnitude).

:math:`W' = D\,(W + s\,BA)` with :math:`D = \mathrm{diag}(m_i / \|W_i + s (BA)_i\|)`,
one magnitude :math:`m_i` per output row (arXiv:2402.09353, section 4; same axis as in
peft and diffusers). The update of a layer is the sum of :math:`W(D - I)`, which can
have any rank, and :math:`s\,(DB)A`, whose rank is reported.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor, nn

from ..optim.pairs import Pair
from .adapter_names import TRAINED

__all__ = [
    "RowLengths",
    "base_lengths",
    "base_matrix",
    "magnitude_of",
    "prepare_dora",
    "row_lengths",
    "split_move",
]


def magnitude_of(model: nn.Module, pair: Pair) -> nn.Parameter | None:
    """Return the magnitudes of a layer, or None without DoRA.

    The shape is ``(out,)``, or ``(1, out, 1, 1)`` for a convolution.
    """
    layer: Any = model.get_submodule(pair.name)
    if TRAINED not in layer.lora_magnitude_vector:
        return None
    return layer.lora_magnitude_vector[TRAINED].weight


@torch.no_grad()
def prepare_dora(model: nn.Module, pairs: Iterable[Pair]) -> None:
    """Initialize every magnitude to the norm of its row, computed in float32.

    peft computes norms in the dtype of the weights. In bfloat16, their error is up to
    0.4 %. The forward pass is changed to compute norms in float32 as well.
    """
    for pair in pairs:
        layer: Any = model.get_submodule(pair.name)
        dora = layer.lora_magnitude_vector[TRAINED]
        dora.get_weight_norm = functools.partial(_in_float32, dora.get_weight_norm)
        dora.weight.data = row_lengths(model, pair).lengths.view(dora.weight.shape)


def _in_float32(
    measure: Callable[..., Tensor],
    weight: Tensor,
    lora_weight: Tensor,
    *rest: Any,
    **named: Any,
) -> Tensor:
    with torch.autocast(weight.device.type, enabled=False):
        return measure(weight.float(), lora_weight.float(), *rest, **named)


@torch.no_grad()
def split_move(model: nn.Module, pair: Pair) -> tuple[Pair, float]:
    r"""Split the update of a layer into a low-rank part and a change of magnitudes.

    Returns:
        Pair of D B and A, and :math:`\|W(D - I)\|_F / \|W\|_F`.
    """
    rows = row_lengths(model, pair)
    up = pair.up.detach()
    ranked = up * rows.scales.view(-1, *[1] * (up.dim() - 1))
    rest = (rows.scales - 1) * rows.base
    return Pair(pair.name, ranked, pair.down), float(rest.norm() / rows.base.norm())


@dataclasses.dataclass(frozen=True)
class RowLengths:
    """Row norms of a layer."""

    base: Tensor
    """Norms of the rows of W, (out,)."""

    lengths: Tensor
    """Norms of the rows of W + s B A, (out,)."""

    magnitude: Tensor
    """Trained norms of the rows (magnitudes), (out,)."""

    @property
    def scales(self) -> Tensor:
        """Return the diagonal entries of D."""
        return self.magnitude / self.lengths


@torch.no_grad()
def row_lengths(model: nn.Module, pair: Pair) -> RowLengths:
    """Compute the row norms of a layer, with and without its LoRA."""
    layer: Any = model.get_submodule(pair.name)
    weight = _matrix(layer.get_base_layer()).to(pair.up.device)
    up, down = pair.matrices
    scale = float(layer.scaling[TRAINED])
    moved = torch.addmm(weight, up.detach(), down.detach(), alpha=scale)
    magnitude = layer.lora_magnitude_vector[TRAINED].weight.detach().flatten()
    return RowLengths(weight.norm(dim=1), moved.norm(dim=1), magnitude)


@torch.no_grad()
def base_matrix(model: nn.Module, name: str) -> Tensor:
    """Return the base weight of a layer in float32 with one row per output."""
    layer: Any = model.get_submodule(name)
    return _matrix(layer.get_base_layer())


@torch.no_grad()
def base_lengths(model: nn.Module, name: str) -> Tensor:
    """Return the norms of the rows of a layer without LoRA, (out,)."""
    return _matrix(model.get_submodule(name)).norm(dim=1)


def _matrix(layer: nn.Module) -> Tensor:
    """Return the weight with one row per output, in float32."""
    return dequantize_module_weight(layer).detach().flatten(1).float()

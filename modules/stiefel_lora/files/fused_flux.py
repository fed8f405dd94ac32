r"""Conversion between diffusers' separate layers of FLUX.1 and the fused originals.

In the original checkpoint, q, k, v (and in single blocks the first layer of the MLP)
are one layer. Separate LoRAs on its n parts are one LoRA on the whole: the A stacked,
the B on the diagonal,

.. math::
    \begin{pmatrix} s B_1 A_1 \\ s B_2 A_2 \end{pmatrix}
    = s \begin{pmatrix} B_1 & 0 \\ 0 & B_2 \end{pmatrix}
        \begin{pmatrix} A_1 \\ A_2 \end{pmatrix},

so its rank is :math:`\sum r_i`, and its alpha :math:`s \sum r_i`. sd-scripts' own
converter writes this form, and ComfyUI, Forge, sd-scripts and diffusers read it. A DoRA
scales rows, so the ``dora_scale`` of the whole is the concatenation of its parts. In
the other direction, a part gets the columns of B that are not zero in its rows: its own
factors, or all columns of a LoRA that was trained on the fused layer.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .._exceptions import ModelError
from ..families.flux_names import (
    DOUBLE,
    DOUBLE_BLOCKS,
    FUSED_DOUBLE,
    FUSED_SINGLE,
    HALVES_SWAPPED,
    OUTSIDE_BLOCKS,
    SINGLE,
    SINGLE_BLOCKS,
)
from .keys_flux import MAX_BLOCKS
from .weights import LoraFactors, LoraWeights

__all__ = ["diffusers_paths", "fuse", "split"]

_PREFIX = "transformer."
# Hidden units of a single block's MLP for each of its outputs.
_MLP_RATIO = 4


@dataclasses.dataclass(frozen=True)
class _Whole:
    """Parts of a fused layer and their shares of its rows."""

    parts: tuple[str, ...]
    shares: tuple[int, ...]


def fuse(
    weights: LoraWeights, base_lengths: Callable[[str], Tensor] | None = None
) -> LoraWeights:
    """Convert from the layers of diffusers to those of the original checkpoint.

    Layers of text encoders are unchanged.

    Args:
        weights: the LoRA.
        base_lengths: norms of the rows of the weight of a layer, (out,), by its name.
            They are used for parts of a fused DoRA that have no DoRA scale.

    Raises:
        ModelError: If FLUX.1 does not have a layer, or only some parts of a fused layer
            are DoRA layers and ``base_lengths`` is not given.
    """
    fused: LoraWeights = {}
    groups: dict[str, dict[str, LoraFactors]] = {}
    for name, factors in weights.items():
        if not name.startswith(_PREFIX):
            fused[name] = factors
            continue
        path = name.removeprefix(_PREFIX)
        whole = diffusers_paths().get(path)
        if whole is None:
            raise ModelError(
                f"{name!r} is not a layer of a FLUX.1 model. Use the PEFT format."
            )
        if whole in _wholes():
            groups.setdefault(whole, {})[path] = factors
        else:
            fused[_PREFIX + whole] = _swapped(whole, factors)
    for whole, parts in groups.items():
        stacked = _stack(_wholes()[whole], parts)
        scale = _stacked_scale(_wholes()[whole], parts, base_lengths)
        fused[_PREFIX + whole] = dataclasses.replace(stacked, dora_scale=scale)
    return fused


def split(weights: LoraWeights) -> LoraWeights:
    """Convert from the layers of the original checkpoint to those of diffusers."""
    apart: LoraWeights = {}
    names = {whole: path for path, whole in diffusers_paths().items()}
    for name, factors in weights.items():
        whole = name.removeprefix(_PREFIX)
        if not name.startswith(_PREFIX):
            apart[name] = factors
        elif whole in _wholes():
            parts = _take_apart(name, _wholes()[whole], factors)
            apart.update({_PREFIX + path: part for path, part in parts.items()})
        else:
            apart[_PREFIX + names[whole]] = _swapped(whole, factors)
    return apart


def _stack(whole: _Whole, parts: Mapping[str, LoraFactors]) -> LoraFactors:
    """Build one LoRA for the fused layer. Parts without a LoRA get rows of zeros."""
    given = [parts.get(path) for path in whole.parts]
    present = [factors for factors in given if factors is not None]
    rank = sum(factors.rank for factors in present)
    # The width of the model, which the parts without a LoRA need, too.
    unit = next(
        factors.up.shape[0] // share
        for factors, share in zip(given, whole.shares, strict=True)
        if factors is not None
    )
    dtypes = {factors.up.dtype for factors in present}
    dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
    up = present[0].up.new_zeros(unit * sum(whole.shares), rank, dtype=dtype)
    row = column = 0
    for factors, share in zip(given, whole.shares, strict=True):
        rows = unit * share
        if factors is not None:
            columns = slice(column, column + factors.rank)
            up[row : row + rows, columns] = factors.up
            column += factors.rank
        row += rows
    scale, downs = _common_scale(present)
    return LoraFactors(up, torch.cat(downs), scale * rank)


def _stacked_scale(
    whole: _Whole,
    parts: Mapping[str, LoraFactors],
    base_lengths: Callable[[str], Tensor] | None,
) -> Tensor | None:
    """Concatenate the row scales of all parts; a part without DoRA keeps its norms."""
    if not any(factors.is_dora for factors in parts.values()):
        return None
    found = []
    for path in whole.parts:
        factors = parts.get(path)
        if factors is not None and factors.dora_scale is not None:
            found.append(factors.dora_scale.flatten())
        elif factors is None and base_lengths is not None:
            found.append(base_lengths(_PREFIX + path))
        else:
            raise ModelError(
                f"{_PREFIX}{path} is not a DoRA layer, but the kohya format fuses "
                "it with a DoRA layer. Pass base_lengths to save_kohya, or use the "
                "PEFT format."
            )
    return torch.cat([lengths.float() for lengths in found])


def _common_scale(parts: list[LoraFactors]) -> tuple[float, list[Tensor]]:
    """Find one scale for all parts. Differing scales are multiplied into A."""
    scales = {factors.scale for factors in parts}
    if len(scales) == 1:
        return scales.pop(), [factors.down for factors in parts]
    # At least float32, so that a file of two bytes is rounded once, when it is written.
    wide = [torch.promote_types(f.down.dtype, torch.float32) for f in parts]
    scaled = [f.down.double() * f.scale for f in parts]
    return 1.0, [d.to(dtype) for d, dtype in zip(scaled, wide, strict=True)]


def _take_apart(
    name: str, whole: _Whole, factors: LoraFactors
) -> dict[str, LoraFactors]:
    outputs, total = factors.up.shape[0], sum(whole.shares)
    if outputs % total:
        raise ModelError(
            f"{name!r} has {outputs} outputs, which cannot be split into {total} "
            "equal parts."
        )
    rows = [outputs // total * share for share in whole.shares]
    found: dict[str, LoraFactors] = {}
    scales: tuple[Tensor | None, ...] = (None,) * len(rows)
    if factors.dora_scale is not None:
        scales = factors.dora_scale.flatten().split(rows)
    ups = factors.up.split(rows)
    # A part without columns had no LoRA: its rows keep their norms.
    for path, up, lengths in zip(whole.parts, ups, scales, strict=True):
        used = up.ne(0).any(dim=0).nonzero().flatten()
        # A LoRA at initialization (B = 0) has no columns either.
        if len(used) == 0 and not factors.up.any():
            used = torch.arange(factors.rank)
        if len(used):
            # Fewer columns have a lower rank, at which this alpha gives the same scale.
            alpha = factors.scale * len(used)
            found[path] = LoraFactors(
                up[:, used], factors.down[used], alpha, dora_scale=lengths
            )
    return found


def _swapped(whole: str, factors: LoraFactors) -> LoraFactors:
    """Swap shift and scale, which diffusers stores in the opposite order."""
    if whole != HALVES_SWAPPED:
        return factors
    lengths = factors.dora_scale
    return dataclasses.replace(
        factors,
        up=_halves_swapped(factors.up),
        magnitude=None,
        dora_scale=None if lengths is None else _halves_swapped(lengths.flatten()),
    )


def _halves_swapped(rows: Tensor) -> Tensor:
    first, second = rows.chunk(2)
    return torch.cat([second, first])


@functools.cache
def _wholes() -> dict[str, _Whole]:
    """Path of a fused layer -> its parts in diffusers."""
    found = {}
    for (original, blocks), fused in (
        (DOUBLE_BLOCKS, FUSED_DOUBLE),
        (SINGLE_BLOCKS, FUSED_SINGLE),
    ):
        for block in range(MAX_BLOCKS):
            for whole, leaves in fused.items():
                parts = tuple(f"{blocks}.{block}.{leaf}" for leaf in leaves)
                # Query, key and value have the width of the model, an MLP a larger one.
                shares = tuple(
                    _MLP_RATIO if leaf == "proj_mlp" else 1 for leaf in leaves
                )
                found[f"{original}.{block}.{whole}"] = _Whole(parts, shares)
    return found


@functools.cache
def diffusers_paths() -> dict[str, str]:
    """Path in diffusers -> path of the layer in the original that holds it."""
    found = {path: original for original, path in OUTSIDE_BLOCKS.items()}
    for (original, blocks), plain in (
        (DOUBLE_BLOCKS, DOUBLE),
        (SINGLE_BLOCKS, SINGLE),
    ):
        for block in range(MAX_BLOCKS):
            for old, leaf in plain.items():
                found[f"{blocks}.{block}.{leaf}"] = f"{original}.{block}.{old}"
    for whole, parts in _wholes().items():
        found.update(dict.fromkeys(parts.parts, whole))
    return found

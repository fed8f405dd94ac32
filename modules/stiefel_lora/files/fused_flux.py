r"""Conversion between separate layers of FLUX.1 in diffusers and fused original layers.

In the original checkpoint, q, k and v (and in single blocks the first layer of the MLP)
are a single layer. LoRAs on its n parts are equivalent to a LoRA on the fused layer
with stacked A and block-diagonal B,

.. math::
    \begin{pmatrix} s B_1 A_1 \\ s B_2 A_2 \end{pmatrix}
    = s \begin{pmatrix} B_1 & 0 \\ 0 & B_2 \end{pmatrix}
        \begin{pmatrix} A_1 \\ A_2 \end{pmatrix},

with rank :math:`\sum r_i` and alpha :math:`s \sum r_i`. This form is written by
sd-scripts, and supported by ComfyUI, Forge, sd-scripts and diffusers. The
``dora_scale`` of the fused layer is the concatenation of those of its parts. In the
other direction, the factors of a part consist of the columns of B that are not zero in
its rows. For a LoRA that was trained on the fused layer, these are all columns.
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
from .weights import LoraFactors, LoraWeights, at_least_float32

__all__ = ["diffusers_paths", "fuse", "original_weight", "split"]

_PREFIX = "transformer."
# Hidden units of a single block's MLP for each of its outputs.
_MLP_RATIO = 4


@dataclasses.dataclass(frozen=True)
class _Whole:
    """Fused layer: its parts and their numbers of rows."""

    parts: tuple[str, ...]
    shares: tuple[int, ...]


def fuse(
    weights: LoraWeights, base_lengths: Callable[[str], Tensor] | None = None
) -> LoraWeights:
    """Convert a LoRA from the layers of diffusers to those of the original checkpoint.

    Layers of text encoders are not changed.

    Args:
        weights: factors of the LoRA.
        base_lengths: function that returns the row norms of the base weight of a layer,
            (out,). It is required if only some parts of a fused layer are DoRA layers.

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
        lengths = _stacked_lengths(_wholes()[whole], parts, base_lengths)
        fused[_PREFIX + whole] = dataclasses.replace(
            stacked,
            dora_scale=lengths.get("dora_scale"),
            magnitude=lengths.get("magnitude"),
        )
    return fused


def split(weights: LoraWeights, *, keep_scales: bool = False) -> LoraWeights:
    """Convert a LoRA from the layers of the original model to those of diffusers.

    Args:
        weights: factors of the LoRA.
        keep_scales: whether to keep parts of a DoRA whose rows of B are zero. Their
            DoRA scales are those of the base model if the part had no LoRA before it
            was fused.
    """
    apart: LoraWeights = {}
    names = {whole: path for path, whole in diffusers_paths().items()}
    for name, factors in weights.items():
        whole = name.removeprefix(_PREFIX)
        if not name.startswith(_PREFIX):
            apart[name] = factors
        elif whole in _wholes():
            parts = _take_apart(name, _wholes()[whole], factors, keep_scales)
            apart.update({_PREFIX + path: part for path, part in parts.items()})
        else:
            apart[_PREFIX + names[whole]] = _swapped(whole, factors)
    return apart


def original_weight(path: str, weight: Callable[[str], Tensor | None]) -> Tensor | None:
    """Build the weight of a layer of the original model from those of diffusers.

    Args:
        path: path of the layer in the original model.
        weight: function that returns the weight of a layer of diffusers by its path,
            or None.

    Returns:
        The weight, (out, in). None if a part does not exist.
    """
    whole = _wholes().get(path)
    paths = whole.parts if whole is not None else _single_parts().get(path, ())
    parts = [part for part in map(weight, paths) if part is not None]
    if not parts or len(parts) < len(paths):
        return None
    joined = torch.cat(parts)
    return _halves_swapped(joined) if path == HALVES_SWAPPED else joined


def _stack(whole: _Whole, parts: Mapping[str, LoraFactors]) -> LoraFactors:
    """Build the LoRA of a fused layer. Rows of parts without a LoRA are zero."""
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


def _stacked_lengths(
    whole: _Whole,
    parts: Mapping[str, LoraFactors],
    base_lengths: Callable[[str], Tensor] | None,
) -> dict[str, Tensor]:
    """Concatenate the DoRA scales and magnitudes of all parts.

    Both are one number per row. Rows of parts without DoRA keep their norms, which are
    read from the base model.
    """
    if not any(factors.is_dora for factors in parts.values()):
        return {}
    found: dict[str, list[Tensor]] = {"dora_scale": [], "magnitude": []}
    for path in whole.parts:
        factors = parts.get(path)
        for kind, lengths in found.items():
            own = None if factors is None else getattr(factors, kind)
            if own is not None:
                lengths.append(own.flatten().float())
            elif factors is None and base_lengths is not None:
                lengths.append(base_lengths(_PREFIX + path).float())
    complete = {
        kind: torch.cat(lengths)
        for kind, lengths in found.items()
        if len(lengths) == len(whole.parts)
    }
    if not complete:
        plain = (p for p in whole.parts if p not in parts or not parts[p].is_dora)
        odd = next(plain, whole.parts[0])
        raise ModelError(
            f"{_PREFIX}{odd} is not a DoRA layer, but is fused with a DoRA layer, "
            "which requires the norms of the base model. Add --base in lora convert, "
            "pass base_lengths to save_kohya, or use the PEFT format."
        )
    return complete


def _common_scale(parts: list[LoraFactors]) -> tuple[float, list[Tensor]]:
    """Return a common scale of all parts, and multiply deviations into A."""
    scales = {factors.scale for factors in parts}
    if len(scales) == 1:
        return scales.pop(), [factors.down for factors in parts]
    # At least float32, so that a file of two bytes is rounded once, when it is written.
    wide = [at_least_float32(f.down.dtype) for f in parts]
    scaled = [f.down.double() * f.scale for f in parts]
    return 1.0, [d.to(dtype) for d, dtype in zip(scaled, wide, strict=True)]


def _take_apart(
    name: str, whole: _Whole, factors: LoraFactors, keep_scales: bool
) -> dict[str, LoraFactors]:
    outputs, total = factors.up.shape[0], sum(whole.shares)
    if outputs % total:
        raise ModelError(
            f"{name!r} has {outputs} outputs, which cannot be split into {total} "
            "equal parts."
        )
    rows = [outputs // total * share for share in whole.shares]
    found: dict[str, LoraFactors] = {}
    scales, magnitudes = (
        (None,) * len(rows) if lengths is None else lengths.flatten().split(rows)
        for lengths in (factors.dora_scale, factors.magnitude)
    )
    ups = factors.up.split(rows)
    for path, up, scale, magnitude in zip(
        whole.parts, ups, scales, magnitudes, strict=True
    ):
        used = up.ne(0).any(dim=0).nonzero().flatten()
        # A LoRA at initialization (B = 0) has no columns either.
        if len(used) == 0 and not factors.up.any():
            used = torch.arange(factors.rank)
        if len(used) == 0 and factors.is_dora and keep_scales:
            used = torch.arange(1)
        # A part without columns had no LoRA.
        if len(used):
            # Fewer columns have a lower rank, at which this alpha gives the same scale.
            alpha = factors.scale * len(used)
            found[path] = LoraFactors(
                up[:, used], factors.down[used], alpha, magnitude, scale
            )
    return found


def _swapped(whole: str, factors: LoraFactors) -> LoraFactors:
    """Swap shift and scale, whose order differs in diffusers."""
    if whole != HALVES_SWAPPED:
        return factors
    magnitude, scale = factors.magnitude, factors.dora_scale
    return dataclasses.replace(
        factors,
        up=_halves_swapped(factors.up),
        magnitude=None if magnitude is None else _halves_swapped(magnitude.flatten()),
        dora_scale=None if scale is None else _halves_swapped(scale.flatten()),
    )


def _halves_swapped(rows: Tensor) -> Tensor:
    first, second = rows.chunk(2)
    return torch.cat([second, first])


@functools.cache
def _wholes() -> dict[str, _Whole]:
    """Return the fused layers by name."""
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
    """Return the names of the original layers that contain the layers of diffusers."""
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


@functools.cache
def _single_parts() -> dict[str, tuple[str]]:
    """Return the layer of diffusers of each original layer that is not fused."""
    wholes = _wholes()
    return {
        original: (path,)
        for path, original in diffusers_paths().items()
        if original not in wholes
    }

r"""Exact weighted sum of LoRA files with any ranks and key formats.

.. math::
    \sum_j w_j s_j B_j A_j = \begin{pmatrix} B_1 & B_2 & \cdots \end{pmatrix}
        \begin{pmatrix} w_1 s_1 A_1 \\ w_2 s_2 A_2 \\ \vdots \end{pmatrix}

whose rank is the sum of the ranks. Weights and alphas are multiplied into A, and alpha
of the result is its rank. If B and A are summed separately, as in several tools, the
result contains additional cross terms :math:`B_i A_j`.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import math
import os
from collections.abc import Mapping, Sequence

import torch

from ..._exceptions import ModelError, OptionError
from ..weights import LoraFactors
from .differences import compared, relative, update_norm
from .embeddings import all_embeddings, other_adapters
from .finite_layers import check_finite_lengths
from .kernels import with_kernel_of
from .layer_names import MODEL, canonical, parse_stem
from .lora_file import LoraFile, LoraLayer
from .one_thread import one_thread
from .open_lora import with_family
from .output_path import check_output
from .planned import Planned, announced
from .products import Method, ProductPlan, plan_products
from .resizing import Target, missed_goals, plan_resize
from .respell import SPELLINGS, in_layout_of, is_fused, respelled
from .save_lora import NO_EFFECT, Lineage, Saved, save_lora
from .sections import section_of
from .suffixes import adapter_in, with_adapter

__all__ = [
    "MergeReport",
    "Part",
    "merge_lora",
    "merged",
    "plan_merge",
]

# Norm of a sum, relative to its parts, below which it is only rounding error.
_CANCELLED = 1e-6
# Norm of weighted files below which their sum has few digits in float32, or none.
_TINY = 1e-36
_TOO_SMALL = (
    "The weighted files are too small for float32, so their sum is rounded to 0 or has "
    "few digits. Use larger weights."
)
_NOTHING_LEFT = (
    "The weighted files cancel out. Their sum is 0, and errors are relative to the "
    "norms of the files."
)


@dataclasses.dataclass(frozen=True)
class Part:
    """LoRA file with its weight in a merge."""

    file: LoraFile
    weight: float = 1.0
    sections: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Additional factors by section pattern. The last matching pattern is used."""


@dataclasses.dataclass(frozen=True)
class MergeReport:
    """Result of :func:`merge_lora`."""

    error: float
    """Relative error of the stored sum in the Frobenius norm.

    If the sum is zero, it is relative to the norms of the parts.
    """

    norm: float
    """Frobenius norm of the exact sum."""

    norms: tuple[float, ...]
    """Frobenius norm of each weighted part."""

    saved: Saved


@torch.no_grad()
@one_thread()
def merge_lora(
    parts: Sequence[Part],
    output: str | os.PathLike[str],
    target: Target | None = None,
    *,
    method: Method | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
    command: str = "",
) -> MergeReport:
    """Merge LoRA files as a weighted sum, in the key format of the first file.

    Args:
        parts: files with their weights.
        output: path of the output file.
        target: rank, error or size to which the sum is reduced. By default, the sum is
            exact.
        method: merge method. The default is the sum. Methods on entries of the updates
            only support a rank as target.
        dtype: dtype of the factors. The default is the widest dtype of all files.
        overwrite: whether to replace an existing file.
        command: command line to record in the metadata.

    Raises:
        ModelError: If the files have different families or layers of different shapes,
            an adapter is not a plain LoRA, or a layer contains NaN or infinity.
        OptionError: If a section pattern matches no layer.
        OutputError: If the output exists, is an input, or cannot be written.
    """
    lineage = Lineage([part.file for part in parts], command)
    place = check_output(output, lineage.inputs, overwrite=overwrite)
    if not parts:
        raise OptionError("FILE: no file to merge. Specify at least one LoRA file.")
    method = method or Method()
    if method.on_entries and target is not None and target.needs_spectra:
        raise OptionError(
            f"--method {method.name}: only --rank can be combined with it. Remove the "
            "other targets."
        )
    parts = _of_one_family(parts)
    files = [part.file for part in parts]
    norms = [_checked_norms(part) for part in parts]
    total = plan_merge(parts)
    if method.name == "norm":
        total = _at_mean_norm(total, parts, norms)
    if dtype is None:
        kinds = [file.widest_dtype for file in files]
        dtype = functools.reduce(torch.promote_types, kinds)
    lineage = Lineage(files, command)
    small: Planned = total
    if method.on_entries:
        rank = None if target is None else target.rank
        small = plan_products(total, total.summands, method, rank)
    elif target is not None:
        bytes_each = dtype.itemsize
        small = plan_resize(total, target, itemsize=bytes_each, lineage=lineage.size)
    options = {"reported": _without_weight(parts), "overwrite": overwrite}
    saved = save_lora(place.path, small, dtype=dtype, lineage=lineage, **options)
    saved = saved.with_remarks(place.remarks)
    if isinstance(small, ProductPlan):
        lost = [small.found[layer.key].lost for layer in saved.file.layers]
        # Rounding is orthogonal to what an SVD cuts off.
        lost = [math.hypot(*both) for both in zip(lost, saved.differences, strict=True)]
        sizes = [small.found[layer.key].norm for layer in saved.file.layers]
    elif target is None:
        lost, sizes = list(saved.differences), list(saved.norms)
    else:
        lost, sizes = _against(total, saved.file)
    norm = math.hypot(*sizes)
    weighted = tuple(
        math.hypot(*(_factor(part, layer) * own[layer.key] for layer in file.layers))
        for part, file, own in zip(parts, files, norms, strict=True)
    )
    whole, meant = norm, math.hypot(*weighted)
    if (meant and norm <= _CANCELLED * meant) or 0 < meant < _TINY:
        whole = meant
        other = (remark for remark in saved.remarks if remark != NO_EFFECT)
        deviation = relative(math.hypot(*saved.differences), whole)
        reason = _NOTHING_LEFT
        if meant < _TINY:
            reason, lost = _TOO_SMALL, [meant - min(norm, meant)]
        saved = dataclasses.replace(
            saved, deviation=deviation, remarks=(*other, reason)
        )
    error = relative(math.hypot(*lost), whole)
    if target is not None:
        worst = max(map(relative, lost, sizes), default=0.0)
        saved = saved.with_remarks(missed_goals(target, error, worst))
    return MergeReport(error, norm, weighted, saved)


def _without_weight(parts: Sequence[Part]) -> set[str]:
    """Return the keys of layers that a weight of 0 leaves out."""
    return {x.key for part in parts for x in part.file.layers if not _factor(part, x)}


def _against(total: Planned, stored: LoraFile) -> tuple[list[float], list[float]]:
    """Return the norms of the rounding errors and the exact updates."""
    own = stored.by_key
    lost, sizes = [], []
    for layer in total.file.layers:
        apart, size = compared(own[layer.key].factors, total.factors(layer))
        lost.append(apart)
        sizes.append(size)
    return lost, sizes


def merged(parts: Sequence[Part]) -> LoraFile:
    """Compute the exact sum in memory, with factors in float32 or float64.

    Raises:
        ModelError: See :func:`merge_lora`.
        OptionError: If there are no files, or a section pattern matches no layer.
    """
    if not parts:
        raise OptionError("FILE: no file to merge. Specify at least one LoRA file.")
    parts = _of_one_family(parts)
    for part in parts:
        _checked_norms(part)
    return plan_merge(parts).in_memory()


@dataclasses.dataclass(frozen=True, eq=False)
class SumPlan(Planned):
    """Exact sum that is computed on demand, with its summands."""

    summands: Mapping[str, Sequence[LoraLayer]] = dataclasses.field(
        default_factory=dict
    )
    """Layers of the files by layer key. Their alphas include the weights."""


def _at_mean_norm(
    total: SumPlan, parts: Sequence[Part], norms: Sequence[Mapping[str, float]]
) -> SumPlan:
    r"""Scale the sum to the mean norm :math:`\sum |w_j| n_j / \sum |w_j|` of its parts.

    :math:`n_j` includes the factors of sections, so that a single part is not changed.
    Without scaling, the norm of the sum of N orthogonal updates is :math:`\sqrt N`
    times the norm of one of them.
    """
    whole = math.hypot(
        *(
            update_norm(total.factors(layer), six_digits=True)
            for layer in total.file.layers
        )
    )
    weights = [abs(part.weight) for part in parts]
    lengths = [
        math.hypot(
            *(
                _section_factor(part, layer) * own[layer.key]
                for layer in part.file.layers
            )
        )
        for part, own in zip(parts, norms, strict=True)
    ]
    weighted = [w * n for w, n in zip(weights, lengths, strict=True)]
    if not any(weighted):
        raise OptionError(
            "--method norm: all updates are 0, so their sum cannot be scaled. Use "
            "other files, or the method sum."
        )
    if whole <= _CANCELLED * math.hypot(*weighted):
        raise OptionError(
            "--method norm: the weighted files cancel out, so their sum cannot be "
            "scaled. Use other weights."
        )
    factor = sum(weighted) / sum(weights) / whole
    summands = {
        key: [
            dataclasses.replace(
                layer,
                factors=dataclasses.replace(
                    layer.factors, alpha=layer.factors.alpha * factor
                ),
            )
            for layer in layers
        ]
        for key, layers in total.summands.items()
    }
    return SumPlan(total.file, lambda layer: _sum(summands[layer.key]), summands)


def plan_merge(parts: Sequence[Part]) -> SumPlan:
    """Create the plan of the exact sum.

    Raises:
        ModelError: If the files have different families, or layers of different shapes.
        OptionError: If all weights are 0.
    """
    first = parts[0].file
    family = _family([part.file for part in parts])
    fused = _fused_like(first)
    summands: dict[str, list[tuple[Part, LoraLayer]]] = {}
    for part in parts:
        for layer in in_layout_of(_weighted(part), fused).layers:
            found = summands.setdefault(layer.key, [])
            same = layer if not found else with_kernel_of(found[0][1], layer)
            found.append((part, same))
    if not summands:
        raise OptionError("FILE: all weights are 0. Use at least one non-zero weight.")
    own = first.by_key
    layers = []
    for key, found in summands.items():
        layer = own.get(key) or _named_like(
            first, found[0][0].file, found[0][1], family
        )
        factors = _shapes_of_sum(found)
        layers.append(
            dataclasses.replace(
                layer,
                factors=factors,
                stored_rank=factors.rank,
                size=sum(summand.size for _, summand in found),
                suffixes={p: s for p, s in layer.suffixes.items() if p != "mid"},
            )
        )
    if len({layer.parsed.component for layer in layers}) > 1:
        # Their keys do not contain the model, which is the name of their folder.
        spelling = _spelling(first)
        layers = [
            respelled(layer, spelling, family) if _is_of_folder(layer) else layer
            for layer in layers
        ]
    size = sum(layer.size for layer in layers)
    total = dataclasses.replace(
        first,
        layers=tuple(layers),
        others=all_embeddings(part.file for part in parts),
        family=family,
        size=size,
    )
    layers_of = {key: [x for _, x in found] for key, found in summands.items()}
    return SumPlan(total, lambda layer: _sum(layers_of[layer.key]), layers_of)


def _checked_norms(part: Part) -> dict[str, float]:
    """Check that a file can be merged. Return the unweighted norms of its updates."""
    file = part.file
    norms: dict[str, float] = {}
    for other in other_adapters(file):
        raise ModelError(
            f"{file.path}: {other.name} is {other.kind}, which cannot be merged. "
            "Use plain LoRA files."
        )
    for layer in file.layers:
        if layer.factors.is_dora:
            raise ModelError(
                f"{file.path}: {layer.name} is a DoRA, whose row scales cannot be "
                "merged. Use plain LoRAs, which lora convert --base --rank creates."
            )
        norms[layer.key] = update_norm(layer.factors, six_digits=True)
    check_finite_lengths(file, norms)
    sections = sorted({section_of(layer.key) for layer in file.layers})
    for pattern in part.sections:
        if not fnmatch.filter(sections, pattern):
            raise OptionError(
                f"--section: {pattern} matches no section of {file.path.name}. "
                f"Available sections: {', '.join(sections)}."
            )
    return norms


def _family(files: Sequence[LoraFile]) -> str | None:
    known = {file.label: file for file in files if file.label is not None}
    if len(known) > 1:
        one, two, *_ = known.items()
        raise ModelError(
            f"{one[1].path} is a LoRA of {one[0]}, but {two[1].path} is a LoRA of "
            f"{two[0]}. LoRAs of different families cannot be merged."
        )
    family = next((file.family for file in known.values()), None)
    for file in files:
        # Some layers have the same names in several families.
        if known and file.label is None and not _can_belong_to(file, family):
            raise ModelError(
                f"{file.path} is a LoRA of an unknown family, but other files are "
                f"LoRAs of {next(iter(known))}. LoRAs of different families cannot be "
                "merged."
            )
    return family


def _can_belong_to(file: LoraFile, family: str | None) -> bool:
    own = [layer.parsed for layer in file.layers if layer.parsed.component == MODEL]
    return all(family and canonical(name, family) is not None for name in own)


def _of_one_family(parts: Sequence[Part]) -> list[Part]:
    """Name the layers of files of unknown families by the family of the others."""
    family = _family([part.file for part in parts])
    return [
        dataclasses.replace(part, file=with_family(part.file, family)) for part in parts
    ]


def _fused_like(first: LoraFile) -> bool:
    """Return whether the layers of a sum are fused.

    A first file with only text encoders has no layout, but its key format has one.
    """
    if _has_model(first):
        return is_fused(first)
    style = SPELLINGS.get(_spelling(first))
    return style is not None and style.fused


def _spelling(file: LoraFile) -> str:
    """Return the first key format of a file."""
    return file.spelling.partition(" + ")[0]


def _has_model(file: LoraFile) -> bool:
    return any(layer.parsed.component == MODEL for layer in file.layers)


def _named_like(
    first: LoraFile, own: LoraFile, layer: LoraLayer, family: str | None
) -> LoraLayer:
    """Convert a layer to the key format of the first file."""
    if own.spelling != first.spelling or layer.key not in own.by_key:
        layer = respelled(layer, _spelling(first), family)
    # A file holds one adapter of peft, whose name may be in all keys.
    named = {adapter_in(x.suffixes["down"]) for x in first.layers} - {""}
    adapter = next(iter(named), "")
    suffixes = {part: with_adapter(s, adapter) for part, s in layer.suffixes.items()}
    return dataclasses.replace(layer, suffixes=suffixes)


def _is_of_folder(layer: LoraLayer) -> bool:
    return parse_stem(layer.stem).component != layer.parsed.component


def _weighted(part: Part) -> LoraFile:
    """Multiply the weights into the alphas, and remove layers with weight 0."""
    layers = []
    for layer in part.file.layers:
        factor = _factor(part, layer)
        if factor:
            # Into alpha, which is a Python float, and not into the factors: 0.7 times a
            # float16 tensor would be rounded.
            alpha = layer.factors.alpha * factor
            factors = dataclasses.replace(layer.factors, alpha=alpha)
            layers.append(dataclasses.replace(layer, factors=factors))
    return dataclasses.replace(part.file, layers=tuple(layers))


def _factor(part: Part, layer: LoraLayer) -> float:
    return part.weight * _section_factor(part, layer)


def _section_factor(part: Part, layer: LoraLayer) -> float:
    section = section_of(layer.key)
    found = [
        factor
        for pattern, factor in part.sections.items()
        if fnmatch.fnmatchcase(section, pattern)
    ]
    return found[-1] if found else 1.0


def _shapes_of_sum(summands: Sequence[tuple[Part, LoraLayer]]) -> LoraFactors:
    """Return the shapes of a layer of the sum. Raise an error if they differ."""
    first = summands[0][1].factors
    wanted = (first.up.shape[0], *first.down.shape[1:])
    for part, layer in summands:
        shapes = (layer.factors.up.shape[0], *layer.factors.down.shape[1:])
        if shapes != wanted:
            raise ModelError(
                f"{layer.name} has shape {shapes} in {part.file.path}, but {wanted} "
                f"in {summands[0][0].file.path}. Use files of the same model."
            )
    rank = sum(layer.factors.rank for _, layer in summands)
    up = (first.up.shape[0], rank, *first.up.shape[2:])
    return announced(up, (rank, *first.down.shape[1:]), float(rank), torch.float32)


def _sum(layers: Sequence[LoraLayer]) -> LoraFactors:
    ups = [_two_bytes(layer.factors.up) for layer in layers]
    downs = [layer.factors.down for layer in layers]
    widest = functools.reduce(torch.promote_types, (up.dtype for up in ups))
    up = torch.cat([up.to(widest) for up in ups], dim=1)
    # The result has at least float32 and at most the precision of a LoRA file.
    kinds = (_two_bytes(down[:0]).dtype for down in downs)
    wide = functools.reduce(torch.promote_types, kinds, torch.float32)
    down = torch.empty(up.shape[1], *downs[0].shape[1:], dtype=wide)
    rows = iter(down)
    for layer, given in zip(layers, downs, strict=True):
        # Summands have different scales, so each goes into its A: in float64, so that
        # the product is rounded once. Row by row stays in the cache.
        for row in given:
            # Not in place: a float64 row would be that of the file.
            next(rows).copy_(row.double() * layer.factors.scale)
    return LoraFactors(up, down, float(up.shape[1]))


def _two_bytes(factor: torch.Tensor) -> torch.Tensor:
    """Convert 8-bit tensors to float16, because torch cannot mix 8-bit dtypes."""
    return factor.to(torch.float16) if factor.dtype.itemsize == 1 else factor

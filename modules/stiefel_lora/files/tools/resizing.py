r"""Reduction of the ranks of a LoRA file with the smallest error.

The SVD of each update :math:`(\alpha/r) B A = U \Sigma V^T` is computed from two thin
QR decompositions and the SVD of an r x r matrix. With the largest singular values, the
new factors are B = U and :math:`A = \Sigma V^T`. This is the best approximation of that
rank in the Frobenius norm (Eckart and Young).
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from ..._exceptions import ModelError, OptionError
from ...geometry import product_singular_values, truncate_factored
from ..weights import LoraFactors
from .differences import compared, relative
from .finite_layers import check_finite
from .lora_file import LoraFile, LoraLayer
from .one_thread import one_thread
from .output_path import check_output
from .planned import Planned, announced
from .ranks_to_keep import capped, ranks_by_error, ranks_by_size, ranks_by_total_error
from .save_lora import (
    Lineage,
    Saved,
    adapter_size,
    holds_alpha,
    kept_metadata,
    save_lora,
)

__all__ = [
    "LayerError",
    "ResizeReport",
    "Target",
    "missed_goals",
    "plan_resize",
    "resize_lora",
    "resized",
]

# Reserve for the lineage of one parent, if it is not known.
_LINEAGE = 1024
# Tolerance of an error for rounding to 16 bits.
_ROUNDED = 5e-3
# Reserve for changed entries of the metadata.
_SLACK = 128
# Number of times the ranks are selected, since the settings depend on them.
_ROUNDS = 4
# Bytes of an entry of the header without its key and its numbers.
_FIXED = 51


@dataclasses.dataclass(frozen=True)
class Target:
    """Target rank, error or size of a resized LoRA.

    Set ``rank``, or exactly one of ``error``, ``total_error``, ``energy`` and ``size``.
    In the latter case, ``rank`` is the maximum rank. ``max_sigma`` and ``max_norm`` can
    be combined with all of them.

    Raises:
        OptionError: If no target or several targets are set, or a value is out of
            range.
    """

    rank: int | None = None
    error: float | None = None
    """Maximum relative error of each layer."""

    total_error: float | None = None
    """Maximum relative error of the whole LoRA."""

    energy: float | None = None
    """Fraction of the sum of squared singular values to keep in each layer."""

    size: float | None = None
    """Maximum file size in MB (10^6 bytes)."""

    max_sigma: float | None = None
    """Maximum singular value. Larger ones are clamped."""

    max_norm: float | None = None
    """Maximum total Frobenius norm of all updates."""

    @property
    def needs_spectra(self) -> bool:
        """Return whether singular values are required to select the ranks."""
        values = (value for name, value in vars(self).items() if name != "rank")
        return any(value is not None for value in values)

    def __post_init__(self) -> None:
        goals = ("error", "total_error", "energy", "size")
        given = [name for name in goals if getattr(self, name) is not None]
        caps = (self.rank, self.max_sigma, self.max_norm)
        if len(given) > 1:
            names = ", ".join(_option(name) for name in given)
            raise OptionError(f"{names}: these options are mutually exclusive.")
        if not given and all(cap is None for cap in caps):
            raise OptionError(
                "One of --rank, --error, --total-error, --energy, --size, "
                "--max-sigma or --max-norm is required."
            )
        if self.rank is not None and self.rank < 1:
            raise OptionError(f"--rank: must be at least 1, but got {self.rank}.")
        for name in ("error", "total_error", "energy"):
            value = getattr(self, name)
            # All of the energy is kept at 1, and nothing at an error of 1.
            whole = name == "energy" and value == 1
            if value is not None and not (0 <= value < 1 or whole):
                raise OptionError(
                    f"{_option(name)}: must be between 0 and 1, but got {value:g}."
                )
        for name in ("size", "max_sigma", "max_norm"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise OptionError(
                    f"{_option(name)}: must be greater than 0, but got {value:g}."
                )


@dataclasses.dataclass(frozen=True)
class LayerError:
    """Ranks and error of a resized layer."""

    name: str
    old_rank: int
    rank: int
    norm: float
    """Frobenius norm of the update before resizing."""

    error: float
    """Relative error of the stored update in the Frobenius norm."""


@dataclasses.dataclass(frozen=True)
class ResizeReport:
    """Result of :func:`resize_lora`."""

    layers: tuple[LayerError, ...]
    total_error: float
    """Relative error of the whole LoRA."""

    saved: Saved


@torch.no_grad()
@one_thread()
def resize_lora(
    file: LoraFile,
    output: str | os.PathLike[str],
    target: Target,
    *,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
    command: str = "",
) -> ResizeReport:
    """Reduce the ranks of a LoRA file and save the result.

    Adapters other than LoRA are copied unchanged.

    Args:
        file: LoRA file from ``open_lora``.
        output: path of the output file, which has the key format of ``file``.
        target: target rank, error or size.
        dtype: dtype of the factors. The default is the widest dtype of the file.
        overwrite: whether to replace an existing file.
        command: command line to record in the metadata.

    Raises:
        ModelError: If a layer is a DoRA, or an adapter contains NaN or infinity.
        OptionError: If the target cannot be reached.
        OutputError: If the output exists, is the input, or cannot be written.
    """
    lineage = Lineage([file], command)
    place = check_output(output, lineage.inputs, overwrite=overwrite)
    check_finite(file)
    dtype = dtype or file.widest_dtype
    plan = plan_resize(
        Planned.of(file), target, itemsize=dtype.itemsize, lineage=lineage.size
    )
    saved = save_lora(
        place.path, plan, dtype=dtype, lineage=lineage, overwrite=overwrite
    )
    saved = saved.with_remarks(place.remarks)
    stored = saved.file.by_key
    layers = [_compared(layer, stored[layer.key]) for layer in file.layers]
    lost = math.hypot(*(layer.error * layer.norm for layer in layers))
    total = math.hypot(*(layer.norm for layer in layers))
    error = relative(lost, total)
    worst = max((layer.error for layer in layers), default=0.0)
    saved = saved.with_remarks(missed_goals(target, error, worst))
    return ResizeReport(tuple(layers), error, saved)


def missed_goals(target: Target, error: float, worst: float = 0.0) -> list[str]:
    """Return a message if a maximum rank prevents an error that was requested.

    Args:
        target: target of the result.
        error: relative error of the whole LoRA.
        worst: largest relative error of a layer.
    """
    if target.rank is None:
        return []
    goals = {"total_error": error, "error": worst}
    return [
        f"{_option(name)}: {getattr(target, name):g} is not reached at --rank "
        f"{target.rank}, and the error is {found:.3g}."
        for name, found in goals.items()
        if getattr(target, name) is not None
        and found > getattr(target, name) + _ROUNDED
    ]


def resized(file: LoraFile, target: Target, *, itemsize: int = 4) -> LoraFile:
    """Resize a file in memory, with factors in float64 and alpha = rank.

    See :func:`plan_resize` for arguments and errors. NaN and infinity are errors, too.
    """
    check_finite(file)
    return plan_resize(Planned.of(file), target, itemsize=itemsize).in_memory()


def plan_resize(
    plan: Planned, target: Target, *, itemsize: int = 4, lineage: int = _LINEAGE
) -> Planned:
    """Select the ranks of all layers. New factors are computed on demand.

    The factors are in float64 with alpha = rank. Layers whose rank and singular values
    do not change keep their factors.

    Args:
        plan: layers with finite factors.
        target: target rank, error or size.
        itemsize: bytes per element in the output file.
        lineage: size of the lineage in the metadata in bytes.

    Raises:
        ModelError: If a layer is a DoRA.
        OptionError: If the target cannot be reached.
    """
    file = plan.file
    if not file.layers:
        kinds = ", ".join(sorted({other.kind for other in file.others}))
        raise ModelError(
            f"{file.path}: the adapters are {kinds}, not LoRA. Convert them first: "
            "stiefel-lora lora convert --to kohya --rank."
        )
    for layer in file.layers:
        _check_kind(file, layer)
    ranks, spectra = [_full_rank(layer.factors) for layer in file.layers], []
    if target.needs_spectra:
        spectra = [_spectrum(plan.factors(layer)) for layer in file.layers]
        ranks = _ranks(file, spectra, target, itemsize, lineage)
    ranks = capped(ranks, target.rank)
    cap = math.inf if target.max_sigma is None else target.max_sigma
    shrink = 1.0
    if target.max_norm is not None:
        kept = [
            values[:rank].clamp_max(cap)
            for values, rank in zip(spectra, ranks, strict=True)
        ]
        norm = math.hypot(*(float(values.norm()) for values in kept))
        shrink = min(1.0, relative(target.max_norm, norm))
    wanted: dict[str, int | None] = {}
    layers = []
    for place, (layer, rank) in enumerate(zip(file.layers, ranks, strict=True)):
        same = shrink == 1 and not (spectra and float(spectra[place][0]) > cap)
        if same and rank == layer.factors.rank and "mid" not in layer.suffixes:
            wanted[layer.key] = None
            layers.append(layer)
            continue
        wanted[layer.key] = rank
        layers.append(dataclasses.replace(layer, factors=_shapes(layer, rank)))
    old = file.by_key

    def factors(layer: LoraLayer) -> LoraFactors:
        given, rank = plan.factors(old[layer.key]), wanted[layer.key]
        return given if rank is None else _truncated(given, rank, cap, shrink)

    small = dataclasses.replace(file, layers=tuple(layers))
    return Planned(small, factors)


def _shapes(layer: LoraLayer, rank: int) -> LoraFactors:
    up, down = layer.factors.up.shape, layer.factors.down.shape
    shapes = (up[0], rank, *up[2:]), (rank, *down[1:])
    return announced(*shapes, float(rank), torch.float64)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_kind(file: LoraFile, layer: LoraLayer) -> None:
    if layer.factors.is_dora:
        raise ModelError(
            f"{file.path}: {layer.name} is a DoRA, which cannot be resized. Use a "
            "plain LoRA, which lora convert --base --rank creates."
        )


def _full_rank(factors: LoraFactors) -> int:
    inputs = factors.down[0].numel()
    return min(factors.rank, factors.up.shape[0], inputs)


def _spectrum(factors: LoraFactors) -> Tensor:
    up, down = factors.up.flatten(1), factors.down.flatten(1)
    values = product_singular_values(up, down) * abs(factors.scale)
    return values[: _full_rank(factors)]


def _ranks(
    file: LoraFile,
    spectra: Sequence[Tensor],
    target: Target,
    itemsize: int,
    lineage: int,
) -> list[int]:
    if target.error is not None:
        return ranks_by_error(spectra, target.error)
    if target.energy is not None:
        # By Pythagoras, the squared relative error is the share that is left out.
        return ranks_by_error(spectra, math.sqrt(1 - target.energy))
    if target.total_error is not None:
        return ranks_by_total_error(spectra, target.total_error, target.rank)
    if target.size is not None:
        costs = [
            itemsize * (layer.factors.up[:, 0].numel() + layer.factors.down[0].numel())
            for layer in file.layers
        ]
        return _ranks_of_size(file, spectra, costs, target, lineage)
    return [_full_rank(layer.factors) for layer in file.layers]


def _ranks_of_size(
    file: LoraFile,
    spectra: Sequence[Tensor],
    costs: Sequence[int],
    target: Target,
    lineage: int,
) -> list[int]:
    """Return the ranks for a file size, which includes peft's settings of the ranks."""
    size = int((target.size or 0) * 1e6)
    beside = _bytes_beside(file, lineage, len(str(size)))
    # peft's settings have the name up to three times.
    most = sum(3 * len(layer.stem) + 40 for layer in file.layers)
    best = [1] * len(costs)
    least = _settings_bytes(file, best)
    settings = most if least else 0
    for _ in range(_ROUNDS):
        budget = size - beside - settings
        if budget < sum(costs):
            # The settings of equal ranks are the smallest ones.
            budget = size - beside - least
        ranks = ranks_by_size(spectra, costs, budget, target.rank)
        settings = _settings_bytes(file, ranks)
        whole = beside + settings
        whole += sum(c * r for c, r in zip(costs, ranks, strict=True))
        if whole <= size and sum(ranks) > sum(best):
            best = ranks
    return best


def _settings_bytes(file: LoraFile, ranks: Sequence[int]) -> int:
    layers = [
        dataclasses.replace(layer, factors=_shapes(layer, rank))
        for layer, rank in zip(file.layers, ranks, strict=True)
    ]
    return adapter_size(layers)


def _bytes_beside(file: LoraFile, lineage: int, digits: int) -> int:
    """Return an upper bound of the size without factors and peft's settings."""
    found = _SLACK + lineage
    found += len(json.dumps(kept_metadata(file), ensure_ascii=False).encode())
    for layer in file.layers:
        factors, suffixes = layer.factors, layer.suffixes
        for part in ("up", "down"):
            shape = tuple(getattr(factors, part).shape)
            found += _entry(layer.stem + suffixes[part], shape, digits)
        if holds_alpha(layer):
            # Four bytes of float32.
            found += 4 + _entry(
                layer.stem + suffixes.get("alpha", ".alpha"), (), digits
            )
    for other in file.others:
        for key, tensor in other.tensors.items():
            found += tensor.nbytes + _entry(key, tuple(tensor.shape), digits)
    return found


def _entry(key: str, shape: tuple[int, ...], digits: int) -> int:
    """Return an upper bound of the size of a header entry."""
    return _FIXED + len(key.encode()) + len(json.dumps(shape)) + 2 * digits


def _truncated(
    factors: LoraFactors, rank: int, cap: float, shrink: float
) -> LoraFactors:
    up = factors.up.flatten(1).double()
    down = factors.down.flatten(1).double() * factors.scale
    u, sigma, v = truncate_factored(up, down.mT, rank)
    sigma = sigma[:rank].clamp_max(cap) * shrink
    return LoraFactors(
        up=u[:, :rank].reshape(-1, rank, *factors.up.shape[2:]),
        # All of sigma in A leaves B orthonormal, as the optimizers of this package need
        # it.
        down=(sigma[:, None] * v[:, :rank].mT).reshape(rank, *factors.down.shape[1:]),
        alpha=float(rank),
    )


def _compared(old: LoraLayer, new: LoraLayer) -> LayerError:
    apart, norm = compared(new.factors, old.factors)
    return LayerError(
        name=old.name,
        old_rank=old.stored_rank,
        rank=new.factors.rank,
        norm=norm,
        error=relative(apart, norm),
    )

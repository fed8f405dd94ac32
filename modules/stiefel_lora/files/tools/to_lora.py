r"""Conversion of other kinds of adapters to plain LoRA.

LoHa, LoKr and full differences define a dense update. A DoRA defines an update relative
to a base model, :math:`\Delta W = W' - W`. The dense update is replaced by its best
LoRA approximation.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..._exceptions import ModelError
from ...families.catalogue import family_names, record_of
from ..dora import apply_lora, complete_dora, neutral_dora
from ..kohya_names import fusing_of
from ..weights import LoraFactors
from .base_checkpoint import Checkpoint
from .dense_updates import dense_update
from .differences import relative
from .embeddings import embeddings_of, other_adapters
from .kernels import kernel_of, with_kernel
from .layer_names import StemName, canonical, parse_stem
from .lora_file import LoraFile, LoraLayer, OtherLayer
from .nearest_lora import Nearest, Rank, nearest_lora
from .open_lora import named_layer
from .respell import is_fused
from .save_lora import Saved
from .widest_dtype import widest_dtype

__all__ = [
    "MadePlain",
    "as_plain_lora",
    "ready_for_peft",
    "ready_to_fuse",
    "with_both_lengths",
]

# Kinds that store a convolution as a matrix.
_FLAT = ("LoHa", "LoKr")
_SUFFIXES = {"down": ".lora_down.weight", "up": ".lora_up.weight", "alpha": ".alpha"}


@dataclasses.dataclass(frozen=True)
class MadePlain:
    """LoRA file after conversion to plain LoRA, with the approximation error."""

    file: LoraFile
    made: Mapping[str, Nearest]
    """LoRA and error of each converted layer, by layer key."""

    left_out: tuple[str, ...]
    """Tensors that cannot be part of a LoRA: biases and norms."""

    replaced: frozenset[str] = frozenset()
    """Keys of the tensors that were converted."""

    unknown_kernels: tuple[str, ...] = ()
    """Layers that were read as linear because their kernels are unknown."""

    @property
    def error(self) -> float:
        """Norm of the approximation error, relative to the converted updates."""
        lost = math.hypot(*(found.lost for found in self.made.values()))
        return relative(lost, self.norm)

    @property
    def norm(self) -> float:
        """Norm of all converted updates."""
        return math.hypot(*(found.norm for found in self.made.values()))

    def stored_error(self, saved: Saved) -> float:
        """Return the error of the converted layers, with the rounding of a file.

        Layers whose q, k and v were fused or split are counted as converted.
        """
        kept = {layer.key for layer in self.file.layers} - self.made.keys()
        rounding = (
            lost
            for layer, lost in zip(saved.file.layers, saved.differences, strict=True)
            if layer.key not in kept
        )
        # Rounding is orthogonal to what the SVD cuts off.
        lost = math.hypot(self.error * self.norm, *rounding)
        return relative(lost, self.norm)


def as_plain_lora(
    file: LoraFile, goal: Rank, base: Checkpoint | None = None
) -> MadePlain:
    """Convert all adapters of a file to plain LoRAs.

    Args:
        file: LoRA file from ``open_lora``.
        goal: rank or error of the converted layers.
        base: base model, required for DoRAs.

    Raises:
        ModelError: If an adapter has no dense update, a DoRA has no base model, or a
            layer has two adapters.
    """
    made: dict[str, Nearest] = {}
    layers, left_out, unknown = [], [], []
    replaced: set[str] = set()
    taken = {layer.key for layer in file.layers}
    for layer in file.layers:
        if layer.factors.is_dora:
            made[layer.key] = nearest_lora(_folded(file, layer, base), goal)
            layer = _with(layer, made[layer.key])
        layers.append(layer)
    for other in other_adapters(file):
        try:
            update = dense_update(other)
        except ModelError as error:
            raise ModelError(f"{file.path}: {error}") from error
        if update is None:
            left_out += list(other.tensors)
        else:
            kernel = _kernel(file, other, base)
            if kernel is None and update.ndim == 2 and other.kind in _FLAT:
                unknown.append(other.name)
            update = _shaped(file, other, update, kernel or ())
            update = _with_row_scale(file, other, update, base)
            found = nearest_lora(update, goal)
            layer = _layer(file, other, found)
            if layer.key in taken:
                raise ModelError(
                    f"{file.path}: {other.name} is stored as {other.kind} and as "
                    "another adapter, of which loaders apply one. Remove the keys of "
                    "the other from the file."
                )
            taken.add(layer.key)
            made[layer.key] = found
            replaced.update(other.tensors)
            layers.append(layer)
    plain = dataclasses.replace(file, layers=tuple(layers), others=embeddings_of(file))
    return MadePlain(plain, made, tuple(left_out), frozenset(replaced), tuple(unknown))


def with_both_lengths(file: LoraFile, base: Checkpoint) -> LoraFile:
    """Add the missing magnitudes or DoRA scales, which requires the base model.

    Raises:
        ModelError: If a layer is missing in the base model.
    """
    layers = []
    for layer in file.layers:
        if layer.factors.is_dora:
            factors = complete_dora(layer.factors, _weight(file, layer, base))
            layer = _with_scales(layer, factors)
        layers.append(layer)
    return dataclasses.replace(file, layers=tuple(layers))


def ready_to_fuse(file: LoraFile, base: Checkpoint) -> LoraFile:
    """Convert plain LoRA layers that are fused with a DoRA to DoRA layers.

    Their updates do not change. Other layers are returned unchanged.

    Raises:
        ModelError: If a layer is missing in the base model.
    """
    fusing = fusing_of(file.family)
    if fusing is None or is_fused(file):
        return file
    wholes, start = fusing.diffusers_paths(), f"{record_of(str(file.family)).denoiser}."

    def group_of(layer: LoraLayer) -> str | None:
        found: str | None = wholes.get(layer.name.removeprefix(start))
        return found

    return _scaled_alike(file, base, group_of)


def ready_for_peft(file: LoraFile, base: Checkpoint) -> LoraFile:
    """Convert plain LoRA layers of a model with DoRA layers to DoRA layers.

    peft applies DoRA to all layers of a model or to none. The updates do not change.

    Raises:
        ModelError: If a layer is missing in the base model.
    """
    return _scaled_alike(file, base, lambda layer: layer.parsed.component)


def _scaled_alike(
    file: LoraFile, base: Checkpoint, group_of: Callable[[LoraLayer], str | None]
) -> LoraFile:
    """Convert plain layers to DoRA layers if their group contains a DoRA layer."""
    scaled = {group_of(x) for x in file.layers if x.factors.is_dora} - {None}
    layers = []
    for layer in file.layers:
        if group_of(layer) in scaled and not layer.factors.is_dora:
            factors = neutral_dora(layer.factors, _weight(file, layer, base))
            layer = _with_scales(layer, factors)
        layers.append(layer)
    return dataclasses.replace(file, layers=tuple(layers))


def _with_scales(layer: LoraLayer, factors: LoraFactors) -> LoraLayer:
    suffixes = {"dora_scale": ".dora_scale", "magnitude": ".lora_magnitude_vector"}
    return dataclasses.replace(
        layer, factors=factors, suffixes=suffixes | dict(layer.suffixes)
    )


def _folded(file: LoraFile, layer: LoraLayer, base: Checkpoint | None) -> Tensor:
    if base is None:
        raise ModelError(
            f"{file.path}: {layer.name} is a DoRA, which requires the base model to "
            "be converted. Add --base, or convert without --rank and --error."
        )
    weight = _weight(file, layer, base)
    return apply_lora(weight, layer.factors) - weight


def _kernel(
    file: LoraFile, other: OtherLayer, base: Checkpoint | None
) -> tuple[int, ...] | None:
    given = file.family if base is None else base.family
    parsed = other.parsed or parse_stem(other.name)
    # A name that several families have is enough if they have one kernel for it.
    families = family_names() if given is None else (given,)
    names = {family: canonical(parsed, family) for family in families}
    found = {kernel_of(n, family, base) for family, n in names.items() if n}
    return found.pop() if len(found) == 1 else None


def _shaped(
    file: LoraFile, other: OtherLayer, update: Tensor, kernel: tuple[int, ...]
) -> Tensor:
    try:
        return with_kernel(update, kernel)
    except ModelError as error:
        raise ModelError(f"{file.path}: {other.name} {error}") from error


def _with_row_scale(
    file: LoraFile, other: OtherLayer, update: Tensor, base: Checkpoint | None
) -> Tensor:
    """Apply the DoRA scale of a LoHa or LoKr layer, as in ComfyUI."""
    ends = (".dora_scale", ".lora_magnitude_vector", ".magnitude")
    found = [t for key, t in other.tensors.items() if key.endswith(ends)]
    if not found:
        return update
    if base is None:
        raise ModelError(
            f"{file.path}: {other.name} is {other.kind} with a DoRA scale, which can "
            "only be converted with its base model. Add --base."
        )
    parsed = other.parsed or parse_stem(other.name)
    weight = _weight_of(file, parsed, other.name, base).double()
    lengths = found[0].double()
    by_rows = lengths.ndim > 0 and lengths.numel() == lengths.shape[0] == len(weight)
    if f"{other.name}.dora_scale" not in other.tensors or not by_rows:
        raise ModelError(
            f"{file.path}: the DoRA scale of {other.name} is not one number per row, "
            "so it cannot become a LoRA. Use a file of another kind."
        )
    if (len(update), update.numel()) != (len(weight), weight.numel()):
        raise _misfit(file, other.name, weight, base)
    update = update.reshape(weight.shape)
    rows = weight.flatten(1).norm(dim=1) + torch.finfo(torch.float32).eps
    scale = (lengths.flatten() / rows).reshape(-1, *[1] * (weight.ndim - 1))
    return scale * (weight + update) - weight


def _weight(file: LoraFile, layer: LoraLayer, base: Checkpoint) -> Tensor:
    weight = _weight_of(file, layer.parsed, layer.name, base)
    inputs = layer.factors.down.shape[1]
    if (weight.shape[0], weight.shape[1]) != (layer.factors.up.shape[0], inputs):
        raise _misfit(file, layer.name, weight, base)
    return weight


def _weight_of(
    file: LoraFile, parsed: StemName, given: str, base: Checkpoint
) -> Tensor:
    # A few layers match several families; the base model determines the one.
    weight = base.weight(canonical(parsed, base.family) or given)
    if weight is None:
        raise ModelError(
            f"{base.path} has no weight for {given} of {file.path.name}. Use "
            "the base model that the LoRA was trained on."
        )
    return weight


def _misfit(file: LoraFile, name: str, weight: Tensor, base: Checkpoint) -> ModelError:
    return ModelError(
        f"{base.path}: {name} has shape {tuple(weight.shape)}, which does not match "
        f"{file.path.name}. Use the base model that the LoRA was trained on."
    )


def _with(layer: LoraLayer, found: Nearest) -> LoraLayer:
    lengths = ("dora_scale", "magnitude", "mid")
    suffixes = {part: s for part, s in layer.suffixes.items() if part not in lengths}
    rank = found.factors.rank
    return dataclasses.replace(
        layer, factors=found.factors, suffixes=suffixes, stored_rank=rank
    )


def _layer(file: LoraFile, other: OtherLayer, found: Nearest) -> LoraLayer:
    layer = LoraLayer(
        name=other.name,
        stem=other.name,
        parsed=other.parsed or parse_stem(other.name),
        factors=found.factors,
        suffixes=_SUFFIXES,
        stored_rank=found.factors.rank,
        dtype=widest_dtype(tensor.dtype for tensor in other.tensors.values()),
        size=sum(tensor.nbytes for tensor in other.tensors.values()),
    )
    return named_layer(layer, file.family)

r"""Convert adapters of other kinds to plain LoRAs, and report the error.

LoHa, LoKr and full differences define a dense update. A DoRA defines one relative to a
base model, :math:`\Delta W = W' - W`. Each is replaced by the best LoRA approximation
of its layer.
"""

from __future__ import annotations

import dataclasses
import math

from torch import Tensor

from ..._exceptions import ModelError
from ..dora import apply_lora, complete_dora
from .base_checkpoint import Checkpoint
from .dense_updates import dense_update
from .differences import relative
from .layer_names import canonical, canonical_key, parse_stem
from .lora_file import LoraFile, LoraLayer, OtherLayer
from .nearest_lora import Nearest, Rank, nearest_lora

__all__ = ["MadePlain", "as_plain_lora", "with_both_lengths"]

_SUFFIXES = {"down": ".lora_down.weight", "up": ".lora_up.weight", "alpha": ".alpha"}


@dataclasses.dataclass(frozen=True)
class MadePlain:
    """A file of plain LoRAs with its approximation error."""

    file: LoraFile
    layers: int
    """Number of layers that were converted."""

    error: float
    """Norm of the approximation error, relative to the converted updates."""

    left_out: tuple[str, ...]
    """Tensors that cannot be part of a LoRA: biases and norms."""


def as_plain_lora(
    file: LoraFile, goal: Rank, base: Checkpoint | None = None
) -> MadePlain:
    """Convert all adapters of a file to plain LoRAs.

    Args:
        file: LoRA file from ``open_lora``.
        goal: rank or error of the converted layers.
        base: base model, required for DoRAs.

    Raises:
        ModelError: If an adapter has no dense update, or a DoRA has no base model.
    """
    made: list[Nearest] = []
    layers, kept, left_out = [], [], []
    for layer in file.layers:
        if layer.factors.is_dora:
            found = nearest_lora(_folded(file, layer, base), goal)
            made.append(found)
            layer = _with(layer, found)
        layers.append(layer)
    for other in file.others:
        update = dense_update(other)
        if other.kind == "embedding":
            kept.append(other)
        elif update is None:
            left_out += list(other.tensors)
        else:
            made.append(nearest_lora(update, goal))
            layers.append(_layer(file, other, made[-1]))
    lost = math.hypot(*(found.lost for found in made))
    norm = math.hypot(*(found.norm for found in made))
    plain = dataclasses.replace(file, layers=tuple(layers), others=tuple(kept))
    return MadePlain(plain, len(made), relative(lost, norm), tuple(left_out))


def with_both_lengths(file: LoraFile, base: Checkpoint) -> LoraFile:
    """Add the missing DoRA scale, so that DoRAs can be written in both formats.

    Raises:
        ModelError: If a layer is missing in the base model.
    """
    layers = []
    for layer in file.layers:
        if layer.factors.is_dora:
            factors = complete_dora(layer.factors, _weight(file, layer, base))
            suffixes = {"dora_scale": ".dora_scale"} | dict(layer.suffixes)
            suffixes |= {"magnitude": ".lora_magnitude_vector"} | suffixes
            layer = dataclasses.replace(layer, factors=factors, suffixes=suffixes)
        layers.append(layer)
    return dataclasses.replace(file, layers=tuple(layers))


def _folded(file: LoraFile, layer: LoraLayer, base: Checkpoint | None) -> Tensor:
    if base is None:
        raise ModelError(
            f"{file.path}: {layer.name} is a DoRA, which requires the base model to "
            "be converted. Add --base, or convert without --rank and --error."
        )
    weight = _weight(file, layer, base)
    return apply_lora(weight, layer.factors) - weight


def _weight(file: LoraFile, layer: LoraLayer, base: Checkpoint) -> Tensor:
    # A few layers match several families; the base model determines the one.
    name = canonical(layer.parsed, base.family) or layer.name
    weight = base.weight(name)
    if weight is None:
        raise ModelError(
            f"{base.path} has no weight for {layer.name} of {file.path.name}. Use "
            "the base model that the LoRA was trained on."
        )
    inputs = layer.factors.down.shape[1]
    if (weight.shape[0], weight.shape[1]) != (layer.factors.up.shape[0], inputs):
        raise ModelError(
            f"{base.path}: {layer.name} has shape {tuple(weight.shape)}, which does "
            f"not match {file.path.name}. Use the base model that the LoRA was "
            "trained on."
        )
    return weight


def _with(layer: LoraLayer, found: Nearest) -> LoraLayer:
    lengths = ("dora_scale", "magnitude", "mid")
    suffixes = {part: s for part, s in layer.suffixes.items() if part not in lengths}
    rank = found.factors.rank
    return dataclasses.replace(
        layer, factors=found.factors, suffixes=suffixes, stored_rank=rank
    )


def _layer(file: LoraFile, other: OtherLayer, found: Nearest) -> LoraLayer:
    parsed = parse_stem(other.name)
    name = canonical(parsed, file.family) if file.family else None
    return LoraLayer(
        name=name or parsed.path,
        stem=other.name,
        parsed=parsed,
        factors=found.factors,
        suffixes=_SUFFIXES,
        stored_rank=found.factors.rank,
        dtype=next(iter(other.tensors.values())).dtype,
        size=sum(tensor.nbytes for tensor in other.tensors.values()),
        key=canonical_key(name) if name else parsed.key,
    )

"""Reading of LoRA files for the layers of a loaded model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from .._exceptions import ConfigError, ModelError
from ..adapters import magnitude_of, row_lengths
from ..adapters.dora_layers import base_matrix
from ..families import Family
from ..files.dora import complete_dora
from ..files.tools.finite_layers import check_finite
from ..files.tools.lora_file import LoraFile
from ..files.tools.merging import Part, merged
from ..files.tools.open_lora import open_lora
from ..files.tools.respell import in_layout_of
from ..files.weights import LoraFactors, LoraWeights, canonical_name
from ..optim.pairs import Pair

__all__ = ["check_shapes", "layer_shapes", "name_of", "read_loras", "set_magnitude"]


def read_loras(
    named: Sequence[tuple[Path, float]], model_type: str, prefix: str = ""
) -> LoraWeights:
    """Read the weighted sum of LoRA files by canonical layer name.

    Args:
        named: paths with weights.
        model_type: family of the base model.
        prefix: beginning of error messages.

    Raises:
        ModelError: If a file cannot be read, contains NaN, or is for another family.
    """
    files = [open_lora(path) for path, _ in named]
    for file in files:
        _check(file, model_type, prefix)
    weights = [weight for _, weight in named]
    if weights != [1.0]:
        for file in files:
            _check_no_dora(file, prefix)
    return _weights_of(files, weights)


def layer_shapes(
    family: Family, layers: Mapping[str, Sequence[str]]
) -> dict[str, tuple[int, ...]]:
    """Return the weight shapes of layers by canonical name.

    Args:
        family: family of the base model.
        layers: names of layers by component.
    """
    found = {}
    for part, names in layers.items():
        own = part == family.component
        skeleton = family.skeleton() if own else family.text_skeleton(part)
        for name in names:
            weight = skeleton.get_submodule(name).get_parameter("weight")
            found[canonical_name(part, name)] = tuple(weight.shape)
    return found


def check_shapes(
    given: LoraWeights, known: Mapping[str, tuple[int, ...]], prefix: str = ""
) -> None:
    """Compare the shapes of a LoRA with those of the base model.

    Raises:
        ConfigError: If a layer of the LoRA has another shape.
    """
    for name, factors in given.items():
        own, shape = (factors.up.shape[0], *factors.down.shape[1:]), known[name]
        # A 1 x 1 convolution may be stored as a matrix.
        if math.prod(own) != math.prod(shape) or own[:2] != shape[:2]:
            raise ConfigError(
                f"{prefix}{name} has shape {own} in the file, but {shape} in the base "
                "model. Use a LoRA of this base model."
            )


def _check(file: LoraFile, model_type: str, prefix: str) -> None:
    if file.family != model_type:
        raise ModelError(
            f"{prefix}{file.path} is a LoRA of {file.family or 'an unknown family'}, "
            f"but model_type is {model_type}. Use a LoRA of that family."
        )
    if file.others:
        first = file.others[0]
        raise ModelError(
            f"{prefix}{file.path} contains {first.kind} layers, for example "
            f"{first.name}. Convert it first: stiefel-lora lora convert {file.path} "
            "--output NEW."
        )
    if file.unknown:
        raise ModelError(f"{prefix}{file.path}: {file.unknown_text} Remove them first.")
    check_finite(file)


def _check_no_dora(file: LoraFile, prefix: str) -> None:
    if any(layer.factors.is_dora for layer in file.layers):
        raise ModelError(
            f"{prefix}{file.path} is a DoRA, whose row scales have no other weight "
            "than 1 and no sum. Use it alone with weight 1 (0 is the base model), or "
            "create a plain LoRA: lora convert --base --rank."
        )


def _weights_of(files: Sequence[LoraFile], weights: Sequence[float]) -> LoraWeights:
    single = len(files) == 1 and weights[0] == 1.0
    # The exact sum; one file keeps its factors.
    file = files[0] if single else merged(list(map(Part, files, weights)))
    # The layers of the model are separate, those of FLUX.1 files often fused.
    # Parts without a LoRA are not trained, although the fused layer has their norms.
    file = in_layout_of(file, fused=False, keep_scales=False)
    return {layer.name: layer.factors for layer in file.layers}


def name_of(pair: Pair, component: str, several: bool) -> str:
    """Return the canonical name of a pair, which contains the name of the part."""
    if not several:
        return canonical_name(component, pair.name)
    part, _, path = pair.name.partition(".")
    return canonical_name(part, path)


@torch.no_grad()
def set_magnitude(model: nn.Module, pair: Pair, factors: LoraFactors | None) -> None:
    """Set DoRA magnitudes to those of the file, or to the row norms of the weight."""
    parameter = magnitude_of(model, pair)
    if parameter is None:
        return
    if factors is not None and factors.is_dora:
        done = complete_dora(factors, base_matrix(model, pair.name))
        assert done.magnitude is not None
        parameter.copy_(done.magnitude.reshape(parameter.shape))
    else:
        parameter.copy_(row_lengths(model, pair).lengths.view(parameter.shape))

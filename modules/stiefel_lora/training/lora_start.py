"""Start from LoRA files (``lora_model_name``) instead of a new LoRA.

The files are read and compared with the layers of the model before the model is loaded.
Only the weights are loaded. Unlike with resume, the state of the optimizer is new.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from .._exceptions import ConfigError, ModelError
from .._weighted_path import parse_part
from .._wording import counted
from ..adapters import alpha_of, magnitude_of, pairs_of, row_lengths
from ..adapters.dora_layers import base_matrix
from ..adapters.given_factors import GivenStart, set_factors
from ..families import Family
from ..files.dora import complete_dora
from ..files.tools.lora_file import LoraFile
from ..files.tools.merging import Part, merged
from ..files.tools.open_lora import open_lora
from ..files.tools.respell import in_layout_of
from ..files.weights import LoraFactors, LoraWeights, canonical_name
from ..optim.pairs import Pair
from ..runs.progress import say

if TYPE_CHECKING:
    from ..config import TrainConfig
    from .preflight import ModelLayers

__all__ = ["read_start", "start_from_loras"]

KEY = "lora_model_name"
# Names that a message lists.
_SHOWN = 3


def read_start(config: TrainConfig, opened: ModelLayers) -> LoraWeights | None:
    """Read the LoRA files and compare them with the trained layers.

    Returns:
        Factors of the weighted sum by canonical layer name, or None if no file is set.

    Raises:
        ConfigError: If a layer of the files is not trained, or has another shape.
        ModelError: If a file cannot be read, or is for another family.
    """
    if not config.lora_model_name:
        return None
    named = [parse_part(text) for text in config.lora_model_name]
    files = [open_lora(path) for path, _ in named]
    for file in files:
        _check(config, file)
    weights = [weight for _, weight in named]
    given = _weights_of(files, weights)
    _check_dora(config, given)
    known = _shapes(opened)
    odd = [name for name in given if name not in known]
    if odd:
        raise ConfigError(_not_trained(odd, len(given)))
    for name, factors in given.items():
        _check_shape(name, factors, known[name])
    return given


def start_from_loras(
    config: TrainConfig, family: Family, whole: nn.Module, given: LoraWeights
) -> None:
    """Set the LoRA of the model to the sum of the files and print a summary.

    Args:
        config: the configuration.
        family: family of the base model.
        whole: denoiser, or module with all trained parts.
        given: result of ``read_start``.
    """
    method = config.optimizer.method
    orthonormal = method is not None and method.start != "lora"
    several = bool(config.text_encoder_rates)
    found: list[GivenStart] = []
    pairs = pairs_of(whole)
    for pair in pairs:
        factors = given.get(_name_of(pair, family.component, several))
        if factors is not None:
            scale = alpha_of(whole, pair) / pair.rank
            found.append(set_factors(pair, factors, scale, orthonormal=orthonormal))
        if config.use_dora:
            _set_magnitude(whole, pair, factors)
    _report(config, found, len(pairs))


def _check(config: TrainConfig, file: LoraFile) -> None:
    if file.family != config.model_type:
        raise ModelError(
            f"{KEY}: {file.path} is a LoRA of {file.family or 'an unknown family'}, "
            f"but model_type is {config.model_type}. Use a LoRA of that family."
        )
    if file.others:
        first = file.others[0]
        raise ModelError(
            f"{KEY}: {file.path} contains {first.kind} layers, for example "
            f"{first.name}. Convert it first: stiefel-lora lora convert {file.path} "
            "--output NEW."
        )
    if file.unknown:
        raise ModelError(f"{KEY}: {file.path}: {file.unknown_text} Remove them first.")


def _weights_of(files: Sequence[LoraFile], weights: Sequence[float]) -> LoraWeights:
    single = len(files) == 1 and weights[0] == 1.0
    # The exact sum; one file keeps its factors.
    file = files[0] if single else merged(list(map(Part, files, weights)))
    # The layers of the model are separate, those of FLUX.1 files often fused.
    # Parts without a LoRA are not trained, although the fused layer has their norms.
    file = in_layout_of(file, fused=False, keep_scales=False)
    return {layer.name: layer.factors for layer in file.layers}


def _check_dora(config: TrainConfig, given: LoraWeights) -> None:
    if config.use_dora or not any(factors.is_dora for factors in given.values()):
        return
    raise ConfigError(
        f"{KEY}: the file is a DoRA. Set use_dora to true, or convert it to a plain "
        "LoRA with stiefel-lora lora convert."
    )


def _shapes(opened: ModelLayers) -> dict[str, tuple[int, ...]]:
    """Return the weight shapes of all trained layers by canonical name."""
    family = opened.family
    parts: dict[str, tuple[nn.Module, Sequence[str]]] = {
        family.component: (family.skeleton(), opened.targets),
        **{
            part: (family.text_skeleton(part), layers)
            for part, layers in opened.text_targets.items()
        },
    }
    return {
        canonical_name(part, name): tuple(
            skeleton.get_submodule(name).get_parameter("weight").shape
        )
        for part, (skeleton, layers) in parts.items()
        for name in layers
    }


def _check_shape(name: str, factors: LoraFactors, shape: tuple[int, ...]) -> None:
    own = (factors.up.shape[0], *factors.down.shape[1:])
    # A 1 x 1 convolution may be stored as a matrix.
    if math.prod(own) == math.prod(shape) and own[:2] == shape[:2]:
        return
    raise ConfigError(
        f"{KEY}: {name} has shape {own} in the file, but {shape} in the base model. "
        "Use a LoRA of this base model."
    )


def _not_trained(names: Sequence[str], count: int) -> str:
    shown = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
    parts = {name.partition(".")[0] for name in names}
    text = sorted(part for part in parts if part.startswith("text_encoder"))
    train = " and ".join(f"train_{part}" for part in text)
    advice = (
        f"Set {train} to true"
        if train
        else "Set layer_filter_preset to full, or conv_rank for convolutions"
    )
    return (
        f"{KEY}: {len(names)} of {counted(count, 'layer', 'layers')} in the files are "
        f"not trained with these settings and would be lost: {shown}. {advice}, or "
        "remove them with stiefel-lora lora merge FILE --section '1:PATTERN=0' "
        "--output NEW."
    )


def _name_of(pair: Pair, component: str, several: bool) -> str:
    """Return the canonical name of a pair, which contains the name of the part."""
    if not several:
        return canonical_name(component, pair.name)
    part, _, path = pair.name.partition(".")
    return canonical_name(part, path)


@torch.no_grad()
def _set_magnitude(model: nn.Module, pair: Pair, factors: LoraFactors | None) -> None:
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


def _report(config: TrainConfig, found: Sequence[GivenStart], count: int) -> None:
    names = ", ".join(Path(text).name for text in config.lora_model_name)
    say(
        f"Starting from {names}: {len(found)} of {counted(count, 'layer', 'layers')}"
        + (", the other layers start with a new LoRA" if len(found) < count else "")
        + ". The state of the optimizer is not loaded."
    )
    norm = math.hypot(*(each.norm for each in found))
    lost = math.hypot(*(each.lost for each in found))
    if lost > 1e-6 * norm:
        say(
            f"The rank of the files is higher than lora_rank={config.lora_rank}. "
            f"The relative error of the truncation is {lost / norm:.2%}."
        )

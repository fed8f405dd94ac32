"""Start from LoRA files (``lora_model_name``) instead of a new LoRA.

The files are read and compared with the layers of the model before the model is loaded.
Only the weights are loaded. Unlike with resume, the state of the optimizer is new.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from .._exceptions import ConfigError
from .._weighted_path import parse_part
from .._wording import counted
from ..adapters import alpha_of, pairs_of
from ..adapters.given_factors import GivenStart, set_factors
from ..families import Family
from ..files.weights import LoraFactors, LoraWeights
from ..runs.progress import say
from .lora_reading import (
    check_shapes,
    layer_shapes,
    name_of,
    read_loras,
    set_magnitude,
)

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
    given = read_loras(named, config.model_type, f"{KEY}: ")
    _check_dora(config, given)
    layers = {opened.family.component: opened.targets, **opened.text_targets}
    known = layer_shapes(opened.family, layers)
    # Other programs also save layers that they do not train, such as the last one of
    # the first text encoder of SDXL.
    given = {n: f for n, f in given.items() if n in known or _has_effect(f)}
    odd = [name for name in given if name not in known]
    if odd:
        raise ConfigError(_not_trained(config, odd, len(given)))
    check_shapes(given, known, f"{KEY}: ")
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
    quotients: set[float] = set()
    pairs = pairs_of(whole)
    for pair in pairs:
        factors = given.get(name_of(pair, family.component, several))
        if factors is not None:
            scale = alpha_of(whole, pair) / pair.rank
            quotients.add(factors.scale / scale)
            found.append(set_factors(pair, factors, scale, orthonormal=orthonormal))
        if config.use_dora:
            set_magnitude(whole, pair, factors)
    _report(config, found, len(pairs))
    if method is None or method.alpha_policy == "free":
        _report_alpha(config, quotients)


def _check_dora(config: TrainConfig, given: LoraWeights) -> None:
    if config.use_dora or not any(factors.is_dora for factors in given.values()):
        return
    raise ConfigError(
        f"{KEY}: the file is a DoRA. Set use_dora to true, or convert it to a plain "
        "LoRA with stiefel-lora lora convert."
    )


def _has_effect(factors: LoraFactors) -> bool:
    return factors.is_dora or bool(factors.up.any() and factors.down.any())


def _not_trained(config: TrainConfig, names: Sequence[str], count: int) -> str:
    shown = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
    parts = {name.partition(".")[0] for name in names}
    text = {part for part in parts if part.startswith("text_encoder")}
    train = " and ".join(
        f"train_{p}" for p in sorted(text - {*config.text_encoder_rates})
    )
    advice = ""
    if train:
        advice = f"Set {train} to true, or remove"
    elif text < parts:
        advice = (
            "Set layer_filter_preset to full, or conv_rank for convolutions, or remove"
        )
    return (
        f"{KEY}: {len(names)} of {counted(count, 'layer', 'layers')} in the files are "
        f"not trained with these settings and would be lost: {shown}. "
        f"{advice or 'Remove'} them with stiefel-lora lora merge FILE --section "
        "'1:PATTERN=0' --output NEW."
    )


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


def _report_alpha(config: TrainConfig, quotients: set[float]) -> None:
    """Print the alpha with which the gradients are those of the scale of the file.

    Args:
        config: the configuration.
        quotients: scales of the layers of the files, divided by those of the run.
    """
    if len(config.lora_model_name) > 1 or len(quotients) != 1:
        return
    (quotient,) = quotients
    if math.isclose(quotient, 1.0, rel_tol=1e-6):
        return
    say(
        f"alpha / rank of the file is {quotient:.4g} times lora_alpha / lora_rank. The "
        "start is the same, but B and A are trained with lora_alpha. Set lora_alpha to "
        f"{quotient * config.resolved_alpha:.6g} to train them with the scale of the "
        "file."
    )

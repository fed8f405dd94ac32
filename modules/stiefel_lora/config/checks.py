"""What only the disk can tell about a configuration, before anything expensive."""

from __future__ import annotations

import os
from collections.abc import Iterator

from .._exceptions import ConfigError
from ..methods import rate_note
from .paths import MODEL_SETTINGS, is_local_model
from .rules_objective import idle_objective
from .schema import TrainConfig

__all__ = ["check_complete", "check_paths", "remarks"]

_OF_MASKS = (
    "alpha_mask",
    "unmasked_probability",
    "unmasked_weight",
    "normalize_masked_area_loss",
)


def check_paths(config: TrainConfig) -> None:
    """Refuse paths that are set and missing.

    Raises:
        ConfigError: one sentence a missing path.
    """
    found = list(_missing(config))
    if found:
        raise ConfigError("\n".join(found))


def check_complete(config: TrainConfig) -> None:
    """Refuse a configuration without base model or pictures, which can not train.

    Raises:
        ConfigError: what is not set, and how to set it.
    """
    found = list(_unset(config))
    if found:
        raise ConfigError("\n".join(found))


def remarks(config: TrainConfig) -> list[str]:
    """Sentences about what is allowed, but perhaps not meant."""
    return [
        *_unset(config),
        *_without_effect(config),
        *_measured_on_what_is_learned(config),
        *_far_rate(config),
    ]


def _missing(config: TrainConfig) -> Iterator[str]:
    for key in MODEL_SETTINGS:
        model = getattr(config, key)
        if model and is_local_model(model) and not os.path.exists(model):
            yield f"{key}: there is no file or folder {model}."
    for key in ("concepts", "validation_concepts"):
        for number, concept in enumerate(getattr(config, key)):
            if not os.path.isdir(concept.path):
                yield f"{key}.{number}.path: there is no folder {concept.path}."
    output = config.output_dir
    if os.path.exists(output) and not os.path.isdir(output):
        yield f"output_dir: {config.output_dir} is a file; name a folder."


def _unset(config: TrainConfig) -> Iterator[str]:
    if not config.base_model_name:
        yield (
            "base_model_name is not set: write a .safetensors checkpoint, the folder "
            "of a diffusers model or a hub name, for example --set "
            "base_model_name=./my_sdxl.safetensors."
        )
    if not config.concepts:
        yield (
            "concepts is not set: name a folder of captioned pictures, for example "
            "--set concepts=./my_pictures."
        )


def _without_effect(config: TrainConfig) -> Iterator[str]:
    if config.validate_every and not config.validation_concepts:
        yield "validate_every has no effect without validation_concepts."
    if config.sample_every and not config.samples:
        yield "sample_every has no effect without samples."
    if config.samples and not config.sample_every:
        yield "samples are not made during training while sample_every is 0."
    if config.save_without_ema and config.ema == "off":
        yield "save_without_ema has no effect with ema off."
    if not config.masked_training:
        for name in _OF_MASKS:
            if getattr(config, name) != type(config).model_fields[name].default:
                yield f"{name} has no effect with masked_training off."
    yield from idle_objective(config)


def _measured_on_what_is_learned(config: TrainConfig) -> Iterator[str]:
    learned = {concept.path for concept in config.concepts}
    for number, concept in enumerate(config.validation_concepts):
        if concept.path in learned:
            yield (
                f"validation_concepts.{number} is among concepts too: its loss falls "
                f"even where the LoRA only learns pictures by heart."
            )


def _far_rate(config: TrainConfig) -> Iterator[str]:
    """A rate in another method's unit, left behind when the optimizer was changed."""
    entry = config.optimizer.method
    if entry is None:
        return
    note = rate_note(entry, config.learning_rate, config.optimizer.arguments())
    if note is not None:
        yield note

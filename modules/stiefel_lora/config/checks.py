"""Checks of paths and required settings, and notes on unusual settings."""

from __future__ import annotations

import os
from collections.abc import Iterator

from .._prompt_weights import has_weights
from .._weighted_path import split_weight
from ..methods import PackagedMethod, far_rate
from .concept import enabled_of
from .paths import MODEL_SETTINGS, is_local_model
from .relevance import idle_because
from .rules_objective import idle_objective
from .schema import TrainConfig
from .trigger import PLACEHOLDER
from .violation import SettingsError, Violation

__all__ = ["check_complete", "check_paths", "missing_paths", "remarks"]


def check_paths(config: TrainConfig) -> None:
    """Check that all paths in the configuration exist.

    Raises:
        SettingsError: If a path does not exist. The message has a line for each path.
    """
    found = missing_paths(config)
    if found:
        raise SettingsError(found)


def check_complete(config: TrainConfig) -> None:
    """Check that the base model and the training images are set.

    Raises:
        SettingsError: If a required setting is missing.
    """
    found = list(_unset(config))
    if found:
        raise SettingsError(found)


def missing_paths(config: TrainConfig) -> list[Violation]:
    """Collect the paths that do not exist."""
    return list(_missing(config))


def remarks(config: TrainConfig) -> list[Violation]:
    """Collect notes on settings that are valid, but probably not intended."""
    return [
        *_unset(config),
        *_without_effect(config),
        *_prompts_without_trigger(config),
        *_weights_that_are_text(config),
        *_measured_on_what_is_learned(config),
        *_far_rate(config),
        *_schedule_of_schedule_free(config),
    ]


def _missing(config: TrainConfig) -> Iterator[Violation]:
    for key in MODEL_SETTINGS:
        model = getattr(config, key)
        if model and is_local_model(model) and not os.path.exists(model):
            yield Violation(key, f"the file or folder {model} does not exist")
    for text in config.lora_model_name:
        path, _ = split_weight(text)
        if not os.path.exists(path):
            yield Violation("lora_model_name", f"the file {path} does not exist")
    for key in ("concepts", "validation_concepts"):
        for number, concept in enumerate(getattr(config, key)):
            if concept.enabled and not os.path.isdir(concept.path):
                yield Violation(
                    f"{key}.{number}.path", f"the folder {concept.path} does not exist"
                )
    output = config.output_dir
    if os.path.exists(output) and not os.path.isdir(output):
        yield Violation("output_dir", f"{config.output_dir} is a file", "Use a folder")


def _unset(config: TrainConfig) -> Iterator[Violation]:
    if not config.base_model_name:
        yield Violation(
            "base_model_name",
            "is not set",
            "Set it to a .safetensors checkpoint, a diffusers folder or a model on "
            "the Hugging Face Hub",
            "--set base_model_name=./my_sdxl.safetensors",
        )
    if not config.concepts:
        yield Violation(
            "concepts",
            "is not set",
            "Add a folder of images with captions",
            "--set concepts=./my_images",
        )
    elif not enabled_of(config.concepts):
        yield Violation(
            "concepts",
            "all folders are disabled",
            "Enable one of them",
            "--set concepts.0.enabled=true",
        )


def _without_effect(config: TrainConfig) -> Iterator[Violation]:
    if config.validate_every and not config.has_validation_images:
        yield Violation(
            "validate_every",
            "has no effect because neither validation_concepts nor validation_split "
            "is set",
        )
    if config.sample_every and not config.samples:
        yield Violation("sample_every", "has no effect because samples is empty")
    if config.samples and not config.sample_every:
        yield Violation(
            "samples",
            "no images are generated during training because sample_every is 0",
        )
    of_loss = idle_objective(config)
    known = {found.key for found in of_loss}
    for key, other in idle_because(lambda name: getattr(config, name)).items():
        is_set = getattr(config, key) != type(config).model_fields[key].default
        if is_set and key not in known:
            value = getattr(config, other)
            shown = ("off", "on")[value] if isinstance(value, bool) else value
            yield Violation(key, f"has no effect because {other} is {shown}")
    yield from of_loss


def _prompts_without_trigger(config: TrainConfig) -> Iterator[Violation]:
    if config.trigger_word is None and any(
        PLACEHOLDER in sample.prompt for sample in config.samples
    ):
        yield Violation(
            "trigger_word",
            f"is not set, so {PLACEHOLDER} is removed from the prompts of samples",
            "Set it to the word that your captions have in common, or that they are to "
            "get",
            "--set trigger_word=ohwx",
        )


def _weights_that_are_text(config: TrainConfig) -> Iterator[Violation]:
    """Return a note on weights in prompts that are not applied."""
    if config.sample_prompt_weights:
        return
    for number, sample in enumerate(config.samples):
        if not has_weights(sample.prompt + sample.negative_prompt):
            continue
        able = "text_encoder" in config.family.clip_states
        label = config.family.label
        yield Violation(
            f"samples.{number}.prompt",
            "contains a weight such as (word:1.2), which is used as text"
            + (" because sample_prompt_weights is off" if able else f" for {label}"),
            "Set sample_prompt_weights" if able else "Remove the weight",
            "--set sample_prompt_weights=true" if able else "",
        )
        return


def _measured_on_what_is_learned(config: TrainConfig) -> Iterator[Violation]:
    learned = {concept.path for concept in enabled_of(config.concepts)}
    for number, concept in enumerate(config.validation_concepts):
        if concept.enabled and concept.path in learned:
            yield Violation(
                f"validation_concepts.{number}",
                "is also one of the training concepts. Its validation loss does not "
                "show overfitting",
            )


def _far_rate(config: TrainConfig) -> Iterator[Violation]:
    """Return a note on a learning rate that is unusual for the optimizer."""
    entry = config.optimizer.method
    if entry is None:
        return
    problem = far_rate(entry, config.learning_rate, config.optimizer.arguments())
    if problem is not None:
        yield Violation("learning_rate", problem)


def _schedule_of_schedule_free(config: TrainConfig) -> Iterator[Violation]:
    """Return notes on settings that replace the average of schedule-free optimizers."""
    entry = config.optimizer.method
    options = config.optimizer.arguments()
    if not isinstance(entry, PackagedMethod) or not entry.is_schedule_free(options):
        return
    if config.learning_rate_scheduler != "constant":
        yield Violation(
            "learning_rate_scheduler",
            f"{config.learning_rate_scheduler!r} decreases the learning rate, but "
            f"{entry.label} averages weights instead. Its authors recommend constant",
        )
    if config.ema != "off":
        yield Violation(
            "ema",
            f"replaces the average of {entry.label} in validation, samples and files. "
            "Its authors recommend off",
        )

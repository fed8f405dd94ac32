"""Rules for specific model families."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..families.catalogue import listed, records
from .resolved import Settings
from .violation import Violation

__all__ = ["CLIP_SETTINGS", "FAMILY_RULES", "FLOW_SAMPLER"]

FLOW_SAMPLER = "euler"
"""The only sampler of flow models."""

CLIP_SETTINGS = {
    "text_encoder_layer_skip": 0,
    "text_encoder_2_layer_skip": 0,
    "max_token_length": 75,
    "weighted_captions": False,
    "sample_prompt_weights": False,
}
"""Settings of CLIP text encoders whose hidden states are used, with their defaults."""


def _sides_are_whole_patches(config: Settings) -> Violation | None:
    step = config.family.pixel_step
    for key, value in _sides(config):
        if value is not None and value % step:
            return Violation(
                key,
                f"must be a multiple of {step} for {config.family.label}, but got "
                f"{value}",
                f"Use {max(value // step, 1) * step}",
            )
    return None


def _sides(config: Settings) -> Iterator[tuple[str, int | None]]:
    yield "resolution", config.resolution
    for side in config.extra_resolutions:
        yield "extra_resolutions", side
    for key in ("concepts", "validation_concepts"):
        for number, concept in enumerate(getattr(config, key)):
            for side in concept.resolutions:
                yield f"{key}.{number}.resolutions", side
    yield "bucket_step", config.bucket_step
    for number, sample in enumerate(config.samples):
        yield f"samples.{number}.width", sample.width
        yield f"samples.{number}.height", sample.height


def _negative_prompts_are_read(config: Settings) -> Violation | None:
    if config.family.negative_prompts:
        return None
    for number, sample in enumerate(config.samples):
        if sample.negative_prompt:
            return Violation(
                f"samples.{number}.negative_prompt",
                f"has no effect for {config.family.label}, which does not use a "
                "negative prompt",
                "Remove it",
            )
    return None


def _a_flow_has_one_sampler(config: Settings) -> Violation | None:
    if not config.family.predicts_flow:
        return None
    for number, sample in enumerate(config.samples):
        if sample.sampler not in (None, FLOW_SAMPLER):
            return Violation(
                f"samples.{number}.sampler",
                f"must be {FLOW_SAMPLER} for {config.family.label}, which is a flow "
                f"model, but got {sample.sampler}",
                "Remove it",
            )
    return None


def _a_length_has_its_t5(config: Settings) -> Violation | None:
    length = config.text_encoder_2_sequence_length
    if length is None or config.family.t5_tokens is not None:
        return None
    able = listed(r.short_label for r in records() if r.t5_tokens is not None)
    return Violation(
        "text_encoder_2_sequence_length",
        f"{length} is only supported for models with T5 ({able}), but model_type is "
        f"{config.model_type}",
        "Remove it",
    )


def _clip_settings_have_their_clip(config: Settings) -> Violation | None:
    for key, default in CLIP_SETTINGS.items():
        value, part = getattr(config, key), key.removesuffix("_layer_skip")
        encoder = part if part != key else "text_encoder"
        if value == default or encoder in config.family.clip_states:
            continue
        able = [r.short_label for r in records() if encoder in r.clip_states]
        return Violation(
            key,
            f"{value} is only supported for {listed(able, 'and')}, but model_type is "
            f"{config.model_type}",
            "Remove it",
        )
    return None


def _a_flow_has_one_prediction(config: Settings) -> Violation | None:
    if not config.family.predicts_flow or config.prediction_type == "auto":
        return None
    others = listed((r.short_label for r in records() if not r.predicts_flow), "and")
    return Violation(
        "prediction_type",
        f"{config.prediction_type!r} is only supported for {others}. "
        f"{config.family.label} always uses flow prediction",
        "Remove it",
    )


def _zero_snr_needs_a_velocity(config: Settings) -> Violation | None:
    if not config.zero_terminal_snr:
        return None
    if config.family.predicts_flow:
        able = listed((r.short_label for r in records() if not r.predicts_flow), "and")
        return Violation(
            "zero_terminal_snr",
            f"is only supported for {able}, but model_type is {config.model_type}",
            "Remove it",
        )
    if config.prediction_type != "epsilon":
        return None
    return Violation(
        "zero_terminal_snr",
        "is not supported with prediction_type='epsilon', because the noise can be "
        "read from the input at the highest noise level",
        "Set prediction_type to v_prediction, or remove one of them",
    )


FAMILY_RULES: tuple[Callable[[Settings], Violation | None], ...] = (
    _sides_are_whole_patches,
    _negative_prompts_are_read,
    _a_flow_has_one_sampler,
    _a_length_has_its_t5,
    _clip_settings_have_their_clip,
    _a_flow_has_one_prediction,
    _zero_snr_needs_a_velocity,
)

"""Settings that have no effect because of other settings or the model family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..families.catalogue import record_of, records
from ..families.record import FamilyRecord
from .rules_objective import BIASED, NOISE_NEEDS, SHAPED

__all__ = ["MASK_SETTINGS", "idle_because", "settings_without_effect"]

Value = Callable[[str], Any]
"""Function that returns the value of a setting."""

MASK_SETTINGS = (
    "alpha_mask",
    "unmasked_probability",
    "unmasked_weight",
    "masked_prior_preservation_weight",
    "normalize_masked_area_loss",
)
"""Settings that need ``masked_training``."""

_NEEDS: tuple[tuple[tuple[str, ...], str, Callable[[Any], object]], ...] = (
    (
        ("ema_decay", "ema_update_step_interval", "save_without_ema"),
        "ema",
        lambda ema: ema != "off",
    ),
    (("keep_saved",), "save_every", bool),
    (MASK_SETTINGS, "masked_training", bool),
    (("huber_delta",), "huber_strength", bool),
    (
        ("loss_weight_strength",),
        "loss_weight_fn",
        lambda weight: weight == "min_snr_gamma",
    ),
    (("loi_batches", "loi_file_rank"), "lora_init", lambda init: init == "loi"),
    (
        ("text_encoder_learning_rate", "text_encoder_stop_training_after"),
        "train_text_encoder",
        bool,
    ),
    (
        ("text_encoder_2_learning_rate", "text_encoder_2_stop_training_after"),
        "train_text_encoder_2",
        bool,
    ),
    (
        ("validation_timesteps_per_picture", "early_stop_patience"),
        "validate_every",
        bool,
    ),
    (("early_stop_min_delta",), "early_stop_patience", bool),
    (("validation_seed",), "validation_split", bool),
    (("bucket_step", "max_aspect_ratio"), "aspect_ratio_bucketing", bool),
    (
        ("learning_rate_min_factor",),
        "learning_rate_scheduler",
        lambda kind: kind != "constant",
    ),
    (
        ("learning_rate_cycles",),
        "learning_rate_scheduler",
        lambda kind: kind == "cosine_with_restarts",
    ),
    (
        ("learning_rate_power",),
        "learning_rate_scheduler",
        lambda kind: kind == "polynomial",
    ),
    (("timestep_shift",), "dynamic_timestep_shifting", lambda on: not on),
)
"""Settings, another one, and a condition on its value without which they have no
effect."""


def settings_without_effect(value: Value) -> set[str]:
    """Return the settings that have no effect with the values of the others.

    A setting of a record is returned as ``samples.negative_prompt``.

    Args:
        value: function that returns the value of a setting, which may be invalid.
    """
    idle = set(idle_because(value))
    try:
        family = record_of(value("model_type"))
    except KeyError:
        return idle
    kind = value("timestep_distribution") or family.usual_distribution
    for key, kinds in (("noising_weight", SHAPED), ("noising_bias", BIASED)):
        if kind not in kinds:
            idle.add(key)
    idle |= {key for key, other in NOISE_NEEDS.items() if not value(other)}
    return idle | _of_other_families(family)


def idle_because(value: Value) -> dict[str, str]:
    """Return the settings that have no effect because of another one, and this one.

    Args:
        value: function that returns the value of a setting, which may be invalid.
    """
    return {
        key: other
        for keys, other, holds in _NEEDS
        if not holds(value(other))
        for key in keys
    }


def _of_other_families(family: FamilyRecord) -> set[str]:
    """Return the settings that have no effect for a model family."""
    idle = {
        f"{record.denoiser}_model_name"
        for record in records()
        if record.denoiser != family.denoiser
    }
    if family.denoiser != "unet":
        idle.add("conv_rank")
    if family.predicts_flow:
        idle |= {"prediction_type", "zero_terminal_snr"}
    else:
        idle |= {"dynamic_timestep_shifting", "guidance_scale"}
    if "text_encoder" not in family.clip_states:
        idle |= {
            "text_encoder_layer_skip",
            "max_token_length",
            "weighted_captions",
            "sample_prompt_weights",
        }
    if "text_encoder_2" not in family.clip_states:
        idle.add("text_encoder_2_layer_skip")
    if family.t5_tokens is None:
        idle |= {"tokenizer_2_model_name", "text_encoder_2_sequence_length"}
    if "text_encoder_2" not in family.text_readers:
        idle |= {
            "text_encoder_2_model_name",
            "train_text_encoder_2",
            "text_encoder_2_learning_rate",
            "text_encoder_2_stop_training_after",
        }
    if not family.negative_prompts:
        idle.add("samples.negative_prompt")
    return idle

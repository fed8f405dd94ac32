"""Values with which options of ai-toolkit have no effect: defaults and switches."""

from __future__ import annotations

from typing import Any

from .ai_toolkit_names import IDLE
from .key_rules import Result, Rule, Scope, ignore, left

__all__ = ["without"]

_DEFAULTS: dict[Any, str] = {
    1: """
        audio_loss_multiplier blank_prompt_preservation_multiplier cfg_scale
        correct_pred_norm_multiplier diff_output_preservation_multiplier
        diffusion_feature_extractor_weight img_multiplier latent_feature_loss_weight
        latent_multiplier layer_offloading_text_encoder_percent
        layer_offloading_transformer_percent max_cfg_scale max_negative_prompts
        merge_network_on_save_strength network_multiplier network_weight
        noise_multiplier noisy_latent_multiplier num_frames
        optimal_noise_pairing_samples pred_scaler random_triggers_max
        random_crop_scale reg_weight signal_correction_noise_scale
        switch_boundary_every target_noise_multiplier target_norm_std_value
    """,
    0.1: "batch_noise_correction_scale paramiter_swapping_factor",
    0.3: "split_model_other_module_param_count_scale",
    0.5: """
        inverted_mask_prior_multiplier refiner_start_at signal_amplification_strength
    """,
    2: "num_workers prefetch_factor",
    3: "differential_guidance_scale guidance_loss_target",
    8: "next_sample_timesteps",
    16: "text_encoder_bits",
    24: "fps",
    100: "log_every",
    -1: "lokr_factor",
    "constant": "guidance_loss_schedule",
    "default": "compile_mode",
    "noise": "loss_target",
    "t2i": "adapter_assist_type",
}
_TRUE = "compile_dynamic lokr_full_rank shrink_video_to_frames transformer_only"
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    **{name: (1, 1.0) for name in _DEFAULTS[1].split()},
    **{name: (value,) for value, names in _DEFAULTS.items() for name in names.split()},
    **{name: (True,) for name in _TRUE.split()},
}
# Options that are only read if another one is set.
_NEEDED = {
    "batch_noise_correction_scale": "do_batch_noise_correction",
    "blank_prompt_preservation_multiplier": "blank_prompt_preservation",
    "correct_pred_norm_multiplier": "correct_pred_norm",
    "diff_output_preservation_class": "diff_output_preservation",
    "diff_output_preservation_multiplier": "diff_output_preservation",
    "differential_guidance_scale": "do_differential_guidance",
    "diffusion_feature_extractor_weight": "diffusion_feature_extractor_path",
    "guidance_loss_schedule": "do_guidance_loss",
    "guidance_loss_target": "do_guidance_loss",
    "inverted_mask_prior_multiplier": "inverted_mask_prior",
    "latent_feature_loss_weight": "latent_feature_extractor_path",
    "layer_offloading_text_encoder_percent": "layer_offloading",
    "layer_offloading_transformer_percent": "layer_offloading",
    "merge_network_on_save_strength": "merge_network_on_save",
    "paramiter_swapping_factor": "do_paramiter_swapping",
    "random_triggers_max": "random_triggers",
    "refiner_lr": "refiner_name_or_path",
    "signal_amplification_strength": "do_signal_amplification",
    "signal_correction_noise_scale": "do_signal_correction_noise",
    "target_norm_std_value": "target_norm_std",
}
# Sections that do not change what is trained.
_AFTERWARDS = ("logging", "sample", "save")
# Options whose default is that of another one.
_SAME_AS = {
    "extras_name_or_path": "model.name_or_path",
    "te_dtype": "model.dtype",
    "vae_dtype": "model.dtype",
}


def without(section: str, name: str, reason: str) -> Rule:
    """Return the rule of an option without a counterpart.

    Only its default has no effect: a factor of 0 or a switch that is turned off can
    change training as much as one that is turned on.

    Args:
        section: section of the job, or "" for datasets.
        name: name of the option.
        reason: reason, to follow "because".
    """
    place = f"{section}." if section else ""
    matters = False if section in _AFTERWARDS or f"{place}{name}" in IDLE else None
    rule = ignore(reason, _NEUTRAL.get(name, (False, 0, "0")), matters=matters)
    needed = _NEEDED.get(name)

    def changed(scope: Scope, value: Any) -> Result:
        if needed and not scope.get(f"{place}{needed}"):
            return left(f"is only used with {needed}", matters=False)
        if value is not None and value == scope.get(_SAME_AS.get(name, "")):
            return left(f"is the same as {_SAME_AS[name]}", matters=False)
        return rule(scope, value)

    return changed

"""Options of ai-toolkit without a counterpart, by name."""

from __future__ import annotations

from ..foreign import ai_toolkit
from ..foreign import reasons as why

__all__ = ["IDLE", "MORE", "WITHOUT"]

WITHOUT: dict[str, str] = {
    name: reason
    for reason, names in ai_toolkit.WITHOUT.items()
    for name in names.split()
}
"""Reasons by option name, in any section."""

MORE: dict[str, str] = {
    why.FAMILIES: """
        model.experimental_xl model.extras_name_or_path model.in_context
        model.is_pixart_sigma model.latent_space_version model.model_paths
        model.text_encoder_bits model.unet_sample_size model.use_flux_cfg
        model.use_text_encoder_1 model.use_text_encoder_2
    """,
    why.OFFLOADING: "model.auto_memory",
    why.START: "model.unconditional_lora_path",
    why.TEXT_LAYERS: "model.attn_masking",
    "compile compiles blocks with the defaults of torch": """
        model.block_compile model.cache_size_limit model.compile_dynamic
        model.compile_fullgraph model.compile_mode
    """,
    why.DEVICES: "model.split_model_other_module_param_count_scale",
    why.ADAPTERS: "network.split_multistage_loras train.train_refiner",
    why.FACTORS: "sample.network_multiplier",
    why.SAMPLER: """
        sample.adapter_conditioning_scale sample.do_cfg_norm sample.extra_values
        sample.format sample.ext sample.sampler
    """,
    why.LOGS: "logging.run_name train.max_loss_debug",
    why.NOISE: """
        train.batch_noise_correction_scale train.do_batch_noise_correction
        train.do_signal_amplification train.do_signal_correction_noise
        train.match_noise_norm train.optimal_noise_pairing_samples
        train.signal_amplification_strength train.signal_correction_noise_scale
        train.standardize_latents train.adaptive_scaling_factor
    """,
    why.TIMESTEPS: "train.switch_boundary_every",
    why.LOSSES: """
        train.audio_loss_multiplier train.blank_prompt_preservation_multiplier
        train.cfg_rescale train.correct_pred_norm_multiplier
        train.diffusion_feature_extractor_path train.diffusion_feature_extractor_weight
        train.do_blank_stabilization train.do_cfg train.do_fft_loss
        train.do_fft_velocity_equiv_weight train.do_guidance_loss
        train.do_guidance_loss_cfg_zero train.do_prior_divergence train.do_random_cfg
        train.guidance_loss_schedule train.guidance_loss_target
        train.inverted_mask_prior_multiplier train.latent_feature_extractor_path
        train.latent_feature_loss_weight train.max_cfg_scale train.max_negative_prompts
        train.negative_prompt train.pred_scaler train.prompt_saturation_chance
        train.t0_loss_target train.t0_velocity_equiv_weight train.target_norm_std
        train.target_norm_std_value train.unconditional_prompt
    """,
    why.CONDITIONS: """
        train.adapter_assist_name_or_path train.adapter_assist_type
        train.match_adapter_assist train.match_adapter_chance
    """,
    why.CAPTIONS: "train.short_and_long_captions_encoder_split",
    why.LOADER: "train.single_item_batching",
    why.PRECISION: """
        train.do_paramiter_swapping train.free_u train.paramiter_swapping_factor
        train.weight_jitter
    """,
    why.AT_START: "train.show_turbo_outputs",
    "validation_split or validation_concepts set the validation set": (
        "train.validation_config"
    ),
    why.SCHEDULES: "train.refiner_lr",
}
"""Further options, with their sections, by reason."""

IDLE = frozenset(
    [
        "model.use_text_encoder_1",
        "model.use_text_encoder_2",
        "network.split_multistage_loras",
        "model.compile_dynamic",
        "train.adapter_lr",
        "train.embedding_lr",
        "train.train_refiner",
    ]
)
"""Options that do not change training with any value."""

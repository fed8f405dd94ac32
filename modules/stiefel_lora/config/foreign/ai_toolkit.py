"""Options of ai-toolkit's jobs: network, train, save, sample, datasets and model."""

from __future__ import annotations

from . import reasons as why

__all__ = ["KEYS", "WITHOUT"]

KEYS = {
    "use_wandb": "trackers",
    "alpha": "lora_alpha",
    "arch": "model_type",
    "attention_backend": "attention_mechanism",
    "caption_ext": "concepts.caption_extension",
    "conv": "conv_rank",
    "dataset_path": "concepts.path",
    "disable_sampling": "sample_every",
    "dtype": "train_dtype",
    "ema_config": "ema",
    "flip_x": "concepts.enable_random_flip",
    "folder_path": "concepts.path",
    "gradient_accumulation": "gradient_accumulation_steps",
    "ignore_if_contains": "layer_filter",
    "is_flux": "model_type",
    "is_v_pred": "prediction_type",
    "is_xl": "model_type",
    "linear": "lora_rank",
    "linear_alpha": "lora_alpha",
    "loss_multiplier": "concepts.loss_weight",
    "lr": "learning_rate",
    "mask_min_value": "unmasked_weight",
    "mask_path": "masked_training",
    "max_denoising_steps": "max_noising_strength",
    "max_step_saves_to_keep": "keep_saved",
    "min_denoising_steps": "min_noising_strength",
    "name_or_path": "base_model_name",
    "dropout": "lora_dropout",
    "neg": "samples.negative_prompt",
    "only_if_contains": "layer_filter",
    "optimizer_params": "optimizer",
    "pretrained_lora_path": "lora_model_name",
    "project_name": "run_name",
    "prompts": "samples",
    "qtype": "weight_dtype",
    "quantize": "weight_dtype",
    "sample_steps": "samples.steps",
    "save_format": "output_formats",
    "sdp": "attention_mechanism",
    "shuffle_tokens": "concepts.enable_tag_shuffling",
    "te_name_or_path": "text_encoder_2_model_name",
    "timestep_type": "timestep_distribution",
    "token_dropout_rate": "concepts.tag_dropout_probability",
    "training_folder": "output_dir",
    "trigger": "trigger_word",
    "unet_path": "unet_model_name",
    "use_ema": "ema",
    "vae_path": "vae_model_name",
}

WITHOUT = {
    "keys are at the top level here, without sections": """
        config job meta network process save train
    """,
    why.ADAPTERS: """
        adapter_lr adapter_type all_layers decompose_both embedding_lr init_words
        lokr_factor lokr_full_rank lorm network_kwargs num_tokens old_lokr_format
        transformer_only use_adapter
    """,
    why.FACTORS: "network_weight",
    why.START: """
        merge_network_on_save merge_network_on_save_strength start_step
    """,
    why.MERGED: "assistant_lora_path inference_lora_path lora_path",
    why.CAPTIONS: """
        caption_type prompt_dropout_prob random_triggers random_triggers_max
        replacements short_and_long_captions use_short_captions
    """,
    why.AUGMENTATION: """
        augmentations augments flip_y random_crop_scale random_scale square_crop
        standardize_images
    """,
    why.BUCKETS: "bucket_tolerance buckets",
    why.CONDITIONS: """
        clip_image_path control_path control_path_1 control_path_2 control_path_3
        ctrl_img do_audio do_i2v fps inpaint_path num_frames shrink_video_to_frames
    """,
    why.LOSSES: """
        blank_prompt_preservation correct_pred_norm diff_output_preservation
        diff_output_preservation_class diff_output_preservation_multiplier
        differential_guidance_scale do_differential_guidance inverted_mask_prior
        learnable_snr_gos loss_target max_loss prior_reg reg_weight
    """,
    why.NOISE: """
        blended_blur_noise dynamic_noise_offset force_consistent_noise img_multiplier
        latent_multiplier noise_multiplier noisy_latent_multiplier
        random_noise_multiplier random_noise_shift target_noise_multiplier
    """,
    why.TIMESTEPS: """
        content_or_style linear_timesteps linear_timesteps2 next_sample_timesteps
        num_train_timesteps
    """,
    why.OFFLOADING: """
        layer_offloading layer_offloading_text_encoder_percent
        layer_offloading_transformer_percent low_ram low_vram unload_text_encoder
    """,
    why.DEVICES: "split_model_over_gpus te_device vae_device",
    why.PRECISION: """
        accuracy_recovery_adapter qtype_te quantize_kwargs quantize_te te_dtype
        vae_dtype
    """,
    why.FAMILIES: """
        is_auraflow is_lumina2 is_pixart is_ssd is_v2 is_v3 is_vega model_kwargs
        refiner_name_or_path
    """,
    why.LOADER: "cache_latents_num_workers num_workers prefetch_factor",
    why.CLOUD: "hf_private hf_repo_id",
    why.CACHE: "cache_text_embeddings",
    why.LOGS: "log_every performance_log_every use_ui_logger verbose",
    why.SAMPLER: "cfg_rescale guidance_rescale refiner_start_at",
    why.AT_START: """
        force_first_sample sample_start_step skip_first_sample
    """,
    "each entry of samples has its own seed": "walk_seed",
    why.SCHEDULES: "lr_scheduler_params",
    "the denoiser is always trained; train_text_encoder adds text encoders": (
        "train_unet"
    ),
}

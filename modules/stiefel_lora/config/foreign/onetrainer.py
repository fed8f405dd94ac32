"""Options of OneTrainer: its configuration, concepts and samples."""

from __future__ import annotations

from . import reasons as why

__all__ = ["KEYS", "WITHOUT"]

KEYS = {
    "backup_after": "checkpoint_every",
    "cfg_scale": "samples.guidance",
    "concept_file_name": "concepts",
    "diffusion_steps": "samples.steps",
    "dropout_probability": "lora_dropout",
    "enable_random_brightness": "concepts.random_brightness_max_strength",
    "enable_random_contrast": "concepts.random_contrast_max_strength",
    "enable_random_hue": "concepts.random_hue_max_strength",
    "enable_random_saturation": "concepts.random_saturation_max_strength",
    "force_epsilon_prediction": "prediction_type",
    "force_v_prediction": "prediction_type",
    "rescale_noise_scheduler_to_zero_terminal_snr": "zero_terminal_snr",
    "layer_filter_regex": "layer_filter",
    "lora_decompose": "use_dora",
    "output_model_destination": "output_dir",
    "output_model_format": "output_formats",
    "prior": "transformer_model_name",
    "quantization": "weight_dtype",
    "random_seed": "samples.seed",
    "resolution_override": "concepts.resolutions",
    "rolling_backup": "keep_checkpoints",
    "rolling_backup_count": "keep_checkpoints",
    "sample_after": "sample_every",
    "sample_definition_file_name": "samples",
    "save_filename_prefix": "run_name",
    "caps_randomize_enable": "concepts.caps_randomize_probability",
    "tag_dropout_enable": "concepts.tag_dropout_probability",
    "text": "concepts.prompt_source",
    "text_encoder": "text_encoder_model_name",
    "text_encoder_2": "text_encoder_2_model_name",
    "train_device": "device",
    "transformer": "transformer_model_name",
    "unet": "unet_model_name",
    "validate_after": "validate_every",
    "validation": "validation_concepts",
    "workspace_dir": "output_dir",
}

WITHOUT = {
    'the unit is part of an interval, such as "2 epochs" or "10 minutes"': """
        backup_after_unit sample_after_unit save_every_unit validate_after_unit
    """,
    why.ADAPTERS: """
        additional_embeddings bundle_additional_embeddings embedding
        embedding_learning_rate embedding_weight_dtype lokr_decompose_both
        lokr_decompose_factor lokr_dim lokr_dora_on_output lokr_full_matrix
        lokr_use_tucker lokr_vec_trick lokr_weight_decompose lora_decompose_norm_epsilon
        lora_decompose_output_axis oft_block_share oft_block_size oft_scaled peft_type
        preserve_embedding_norm training_method
    """,
    why.START: "continue_last_backup",
    why.OFFLOADING: "async_offloading temp_device",
    why.DEVICES: """
        async_gradient_reduce async_gradient_reduce_buffer device_indexes
        fused_gradient_reduce gradient_reduce_precision multi_gpu
    """,
    why.PRECISION: "enable_autocast_cache fallback_train_dtype lora_weight_dtype",
    why.CHECKPOINTS: "backup_before_save prevent_overwrites",
    why.SNAPSHOTS: "save_skip_first",
    "the settings are part of the metadata of every LoRA file": "include_train_config",
    why.CACHE: "clear_cache_before_training huggingface_cache_dir only_cache",
    why.CLOUD: "cloud secrets",
    why.CONDITIONS: """
        base_image_path custom_conditioning_image frames length mask_image_path
        sample_audio_format sample_inpainting sample_video_format
    """,
    why.SCHEDULES: """
        custom_learning_rate_scheduler scheduler_params
    """,
    "learning_rate is not scaled by the batch size": "learning_rate_scaler",
    why.LOADER: "dataloader_threads",
    why.LOGS: """
        debug_dir debug_mode samples_to_tensorboard tensorboard tensorboard_always_on
        tensorboard_expose tensorboard_port
    """,
    why.FAMILIES: """
        decoder decoder_text_encoder decoder_vqgan effnet_encoder offline_mode
        text_encoder_3 text_encoder_3_layer_skip text_encoder_4
        text_encoder_4_layer_skip unconditional_transformer
    """,
    why.NOISE: """
        force_circular_padding generalized_offset_noise
    """,
    why.LOSSES: """
        log_cosh_strength loss_scaler vb_loss_strength
    """,
    "optimizer contains the options of one optimizer, and each optimizer has its "
    "own defaults": ("optimizer_defaults"),
    why.SAMPLER: """
        force_last_timestep
        transformer_attention_mask
    """,
    "samples are written as .png": "sample_image_format",
    why.AT_START: ("sample_skip_first"),
    why.TEXT_LAYERS: """
        text_encoder_1_sequence_length text_encoder_sequence_length
    """,
    why.AUGMENTATION: """
        enable_fixed_rotate enable_random_circular_mask_shrink
        enable_random_mask_rotate_crop enable_random_rotate random_rotate_max_angle
    """,
    "resolutions of a concept is used whenever it is set": (
        "enable_resolution_override"
    ),
    "samples are generated with the averaged weights whenever ema is set": (
        "non_ema_sampling"
    ),
    "is_reg marks regularization images, and validation_concepts lists those of the "
    "validation set": "type",
    "it is a setting of the window of OneTrainer": "concept_stats image",
}

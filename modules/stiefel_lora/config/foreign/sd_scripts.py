"""Options of kohya's sd-scripts: arguments, dataset files and network arguments."""

from __future__ import annotations

from . import reasons as why

__all__ = ["KEYS", "WITHOUT"]

KEYS = {
    "ae": "vae_model_name",
    "block_dims": "rank_pattern",
    "bucket_no_upscale": "allow_upscaling",
    "bucket_reso_steps": "bucket_step",
    "cache_latents": "latent_caching",
    "cache_latents_to_disk": "latent_caching",
    "caption_dropout_every_n_epochs": "concepts.caption_dropout_rate",
    "caption_extention": "concepts.caption_extension",
    "caption_prefix": "trigger_word",
    "caption_separator": "concepts.tag_delimiter",
    "caption_tag_dropout_rate": "concepts.tag_dropout_probability",
    "class_tokens": "concepts.default_caption",
    "clip_l": "text_encoder_model_name",
    "clip_skip": "text_encoder_layer_skip",
    "color_aug": "concepts.random_hue_max_strength",
    "conv_dim": "conv_rank",
    "dataset_config": "concepts",
    "dataset_repeats": "concepts.repeats",
    "datasets": "concepts",
    "debiased_estimation_loss": "loss_weight_fn",
    "discrete_flow_shift": "timestep_shift",
    "dynamo_backend": "compile",
    "enable_bucket": "aspect_ratio_bucketing",
    "flip_aug": "concepts.enable_random_flip",
    "fp8_base": "weight_dtype",
    "fp8_base_unet": "weight_dtype",
    "full_bf16": "train_dtype",
    "full_fp16": "train_dtype",
    "huber_c": "huber_delta",
    "image_dir": "concepts.path",
    "keep_tokens": "concepts.keep_tags_count",
    "keep_tokens_separator": "concepts.keep_tags_separator",
    "log_tracker_name": "tracker_project",
    "log_with": "trackers",
    "logging_dir": "output_dir",
    "logit_mean": "noising_bias",
    "logit_std": "noising_weight",
    "loss_type": "huber_strength",
    "lr_scheduler": "learning_rate_scheduler",
    "lr_scheduler_min_lr_ratio": "learning_rate_min_factor",
    "lr_scheduler_num_cycles": "learning_rate_cycles",
    "lr_scheduler_power": "learning_rate_power",
    "lr_scheduler_type": "learning_rate_scheduler",
    "lr_warmup_steps": "learning_rate_warmup_steps",
    "masked_loss": "masked_training",
    "max_grad_norm": "clip_grad_norm",
    "max_timestep": "max_noising_strength",
    "max_train_epochs": "epochs",
    "max_train_steps": "steps",
    "mem_eff_attn": "attention_mechanism",
    "min_snr_gamma": "loss_weight_strength",
    "min_timestep": "min_noising_strength",
    "mixed_precision": "train_dtype",
    "network_alpha": "lora_alpha",
    "network_dim": "lora_rank",
    "network_train_unet_only": "train_text_encoder",
    "network_dropout": "lora_dropout",
    "noise_offset": "offset_noise_weight",
    "noise_offset_random_strength": "offset_noise_random_strength",
    "num_repeats": "concepts.repeats",
    "optimizer_args": "optimizer",
    "network_weights": "lora_model_name",
    "optimizer_type": "optimizer.name",
    "output_name": "run_name",
    "pretrained_model_name_or_path": "base_model_name",
    "prior_loss_weight": "concepts.loss_weight",
    "random_crop": "concepts.enable_crop_jitter",
    "reg_data_dir": "concepts.is_reg",
    "sample_every_n_epochs": "sample_every",
    "sample_every_n_steps": "sample_every",
    "sample_prompts": "samples",
    "sample_sampler": "samples.sampler",
    "save_every_n_epochs": "save_every",
    "save_every_n_steps": "save_every",
    "save_last_n_epochs": "keep_saved",
    "save_last_n_epochs_state": "keep_checkpoints",
    "save_last_n_steps": "keep_saved",
    "save_last_n_steps_state": "keep_checkpoints",
    "save_model_as": "output_formats",
    "save_precision": "output_dtype",
    "save_state": "checkpoint_every",
    "sdpa": "attention_mechanism",
    "shuffle_caption": "concepts.enable_tag_shuffling",
    "sigmoid_scale": "noising_weight",
    "subsets": "concepts",
    "t5xxl": "text_encoder_2_model_name",
    "t5xxl_max_token_length": "text_encoder_2_sequence_length",
    "text_encoder_lr": "text_encoder_learning_rate",
    "timestep_sampling": "timestep_distribution",
    "torch_compile": "compile",
    "train_batch_size": "batch_size",
    "train_data_dir": "concepts",
    "training_comment": "comment",
    "unet_lr": "learning_rate",
    "use_8bit_adam": "optimizer.name",
    "use_lion_optimizer": "optimizer.name",
    "v_parameterization": "prediction_type",
    "vae": "vae_model_name",
    "validate_every_n_epochs": "validate_every",
    "validate_every_n_steps": "validate_every",
    "weighting_scheme": "timestep_distribution",
    "xformers": "attention_mechanism",
}

WITHOUT = {
    why.START: """
        dim_from_weights initial_epoch initial_step
        network_multiplier resume skip_until_initial_step
    """,
    why.MERGED: "base_weights base_weights_multiplier",
    why.FACTORS: """
        block_alphas conv_alpha network_args
    """,
    why.ADAPTERS: "network_module",
    "the denoiser is always trained; train_text_encoder adds text encoders": (
        "network_train_text_encoder_only"
    ),
    why.CAPTIONS: """
        caption_suffix in_json metadata_file
        token_warmup_min token_warmup_step
    """,
    why.TEXT_LAYERS: "apply_t5_attn_mask",
    why.CACHE: """
        cache_info cache_text_encoder_outputs cache_text_encoder_outputs_to_disk
        skip_cache_check
    """,
    why.LOADER: """
        max_data_loader_n_workers persistent_data_loader_workers text_encoder_batch_size
        vae_batch_size
    """,
    why.AUGMENTATION: "face_crop_aug_range resize_interpolation",
    why.BUCKETS: "max_bucket_reso min_bucket_reso",
    why.CONDITIONS: "controlnet_model_name_or_path",
    why.MASKS: "conditioning_data_dir",
    why.SOURCES: "custom_attributes dataset_class debug_dataset general",
    why.LOSSES: """
        huber_scale huber_schedule scale_v_pred_loss_like_noise_pred v_pred_like_loss
    """,
    why.SCHEDULES: """
        lr_decay_steps lr_scheduler_args lr_scheduler_timescale
    """,
    why.TIMESTEPS: ("mode_scale model_prediction_type"),
    why.OFFLOADING: """
        blocks_to_swap cpu_offload_checkpointing fused_backward_pass highvram lowram
        offload_optimizer_device offload_optimizer_nvme_path offload_param_device
        offload_param_nvme_path split_mode
    """,
    why.PRECISION: "fp16_master_weights_and_gradients no_half_vae",
    why.DEVICES: """
        ddp_gradient_as_bucket_view ddp_static_graph ddp_timeout deepspeed
        zero3_init_flag zero3_save_16bit_model zero_stage
    """,
    why.FAMILIES: "disable_mmap_load_safetensors tokenizer_cache_dir v2",
    why.LOGS: """
        console_log_file console_log_level console_log_simple log_config log_prefix
        log_tracker_config wandb_api_key wandb_run_name
    """,
    why.METADATA: """
        metadata_author metadata_description metadata_is_negative_embedding
        metadata_license metadata_merged_from metadata_preprocessor metadata_tags
        metadata_thumbnail metadata_title metadata_trigger_phrase metadata_usage_hint
        no_metadata
    """,
    why.CLOUD: """
        async_upload huggingface_path_in_repo huggingface_repo_id huggingface_repo_type
        huggingface_repo_visibility huggingface_token resume_from_huggingface
        save_state_to_huggingface
    """,
    why.AT_START: ("sample_at_first"),
    why.SNAPSHOTS: "save_n_epoch_ratio save_state_on_train_end use_safetensors",
    "the whole validation set is measured with the same noise every time": (
        "max_validation_steps"
    ),
    "a configuration is one JSON file, which extends can base on another": (
        "config_file output_config"
    ),
}

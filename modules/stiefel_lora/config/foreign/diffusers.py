"""Options of the LoRA training scripts of diffusers."""

from __future__ import annotations

from . import reasons as why

__all__ = ["KEYS", "WITHOUT"]

KEYS = {
    "report_to": "trackers",
    "adam_beta1": "optimizer.beta1",
    "adam_beta2": "optimizer.beta2",
    "adam_epsilon": "optimizer.eps",
    "adam_weight_decay": "optimizer.weight_decay",
    "checkpointing_steps": "checkpoint_every",
    "checkpoints_total_limit": "keep_checkpoints",
    "class_data_dir": "concepts.is_reg",
    "enable_npu_flash_attention": "attention_mechanism",
    "enable_xformers_memory_efficient_attention": "attention_mechanism",
    "instance_data_dir": "concepts",
    "instance_prompt": "concepts.prompt_source",
    "lora_layers": "layer_filter",
    "lr_num_cycles": "learning_rate_cycles",
    "lr_power": "learning_rate_power",
    "max_sequence_length": "text_encoder_2_sequence_length",
    "num_inference_steps": "samples.steps",
    "num_train_epochs": "epochs",
    "output_kohya_format": "output_formats",
    "pretrained_vae_model_name_or_path": "vae_model_name",
    "random_flip": "concepts.enable_random_flip",
    "rank": "lora_rank",
    "snr_gamma": "loss_weight_strength",
    "validation_epochs": "sample_every",
    "validation_prompt": "samples",
    "validation_steps": "sample_every",
}

WITHOUT = {
    "the optimizer's own weight_decay applies to text encoders": (
        "adam_weight_decay_text_encoder"
    ),
    "TF32 in matrix products is torch's own setting": "allow_tf32",
    why.SOURCES: """
        caption_column dataset_config_name dataset_name image_column max_train_samples
    """,
    "images are center-cropped unless enable_crop_jitter is set": "center_crop",
    why.AUGMENTATION: "image_interpolation_mode",
    why.REGULARIZATION: """
        class_prompt num_class_images prior_generation_precision sample_batch_size
        with_prior_preservation
    """,
    why.LOADER: "dataloader_num_workers",
    why.LOGS: "debug_loss",
    why.NOISE: "do_edm_style_training",
    why.CLOUD: "hub_model_id hub_token push_to_hub",
    why.DEVICES: "local_rank",
    why.START: "resume_from_checkpoint",
    "each entry of samples is one image": "num_validation_images",
    "optimizer.options holds the options of a custom optimizer": """
        prodigy_beta3 prodigy_decouple prodigy_safeguard_warmup
        prodigy_use_bias_correction
    """,
    why.FAMILIES: "revision variant",
    "learning_rate is not scaled by the batch size": "scale_lr",
    why.PRECISION: "upcast_before_saving",
}

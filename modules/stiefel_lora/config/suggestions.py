"""What someone may have meant who wrote a key or a word that we do not know."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["FOREIGN_NAMES", "nearest", "suggest_key"]

# Names of kohya's sd-scripts, OneTrainer and diffusers' example scripts -> ours.
FOREIGN_NAMES = {
    "accumulation_steps": "gradient_accumulation_steps",
    "alpha": "lora_alpha",
    "backup_after": "checkpoint_every",
    "base_model": "base_model_name",
    "batch": "batch_size",
    "cfg_scale": "guidance",
    "checkpointing_steps": "checkpoint_every",
    "checkpoints_total_limit": "keep_checkpoints",
    "concept_file_name": "concepts",
    "diffusion_steps": "steps",
    "dim": "lora_rank",
    "directory": "path",
    "discrete_flow_shift": "timestep_shift",
    "dora_wd": "use_dora",
    "epochs": "steps",
    "folder": "path",
    "gradient_accumulation": "gradient_accumulation_steps",
    "huber_c": "huber_delta",
    "image_dir": "path",
    "instance_data_dir": "concepts",
    "logging_dir": "output_dir",
    "logit_mean": "noising_bias",
    "logit_std": "noising_weight",
    "lora_decompose": "use_dora",
    "loss_type": "huber_strength",
    "lr": "learning_rate",
    "lr_scheduler": "learning_rate_scheduler",
    "lr_scheduler_min_lr_ratio": "learning_rate_min_factor",
    "lr_warmup_steps": "learning_rate_warmup_steps",
    "max_grad_norm": "clip_grad_norm",
    "max_train_epochs": "steps",
    "max_train_steps": "steps",
    "min_lr_ratio": "learning_rate_min_factor",
    "min_snr_gamma": "loss_weight_strength",
    "mixed_precision": "train_dtype",
    "name": "run_name",
    "negative": "negative_prompt",
    "network_alpha": "lora_alpha",
    "network_dim": "lora_rank",
    "noise_offset": "offset_noise_weight",
    "num_inference_steps": "steps",
    "num_repeats": "repeats",
    "num_train_epochs": "steps",
    "optimizer_args": "optimizer",
    "optimizer_name": "optimizer.name",
    "optimizer_type": "optimizer.name",
    "output_model_destination": "output_dir",
    "output_model_format": "output_formats",
    "output_name": "run_name",
    "pretrained_model_name_or_path": "base_model_name",
    "rank": "lora_rank",
    "rolling_backup_count": "keep_checkpoints",
    "sample_after": "sample_every",
    "sample_definition_file_name": "samples",
    "sample_every_n_steps": "sample_every",
    "sample_prompts": "samples",
    "save_every": "checkpoint_every",
    "save_every_n_steps": "checkpoint_every",
    "save_last_n_steps": "keep_checkpoints",
    "save_model_as": "output_formats",
    "save_precision": "output_dtype",
    "scale": "guidance",
    "snr_gamma": "loss_weight_strength",
    "timestep_sampling": "timestep_distribution",
    "train_batch_size": "batch_size",
    "train_data_dir": "concepts",
    "train_device": "device",
    "unet_lr": "learning_rate",
    "validate_after": "validate_every",
    "validation_every_n_steps": "validate_every",
    "weighting_scheme": "timestep_distribution",
    "workspace_dir": "output_dir",
}


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like ``word``, or None when none is like it."""
    lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), list(lower), n=1)
    return lower[found[0]] if found else None


def suggest_key(key: str, known: Iterable[str]) -> str | None:
    """The valid key that ``key`` stands for: another trainer's name, or a near one."""
    known = list(known)
    foreign = FOREIGN_NAMES.get(key)
    if foreign and foreign.partition(".")[0] in known:
        return foreign
    return nearest(key, known)

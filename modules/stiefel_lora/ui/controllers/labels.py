"""Labels of settings: the key in words, nicer where words alone are not."""

from __future__ import annotations

__all__ = ["label_of"]

_LABELS = {
    "base_model_name": "Base model",
    "b_length": "Length of B's turn",
    "b_rule": "Direction of B's turn",
    "a_rule": "Optimizer of A",
    "angle_per_lr": "Angle per learning rate",
    "cache_dir": "Cache folder",
    "class": "Class",
    "clip_grad_norm": "Clip gradient norm",
    "concepts": "Picture folders",
    "gradient_accumulation_steps": "Gradient accumulation",
    "keep_checkpoints": "Checkpoints kept",
    "layer_filter": "Layer filter",
    "layer_filter_preset": "Layers",
    "learning_rate_min_factor": "Lowest share of the rate",
    "learning_rate_scheduler": "Schedule",
    "learning_rate_warmup_steps": "Warm-up steps",
    "lora_init": "LoRA start",
    "model_type": "Model type",
    "output_dir": "Output folder",
    "plugins": "Plug-ins",
    "output_dtype": "File precision",
    "output_formats": "File formats",
    "rank_every": "Measure ranks every",
    "sample_every": "Sample every",
    "checkpoint_every": "Checkpoint every",
    "validate_every": "Validate every",
    "train_dtype": "Training precision",
    "use_dora": "DoRA",
    "validation_concepts": "Held-out folders",
    "validation_timesteps_per_picture": "Noise levels per picture",
    "weight_dtype": "Base model precision",
}
_WORDS = {
    "dora": "DoRA",
    "dtype": "precision",
    "ema": "EMA",
    "eps": "epsilon",
    "fn": "function",
    "kohya": "kohya",
    "loi": "LOI",
    "lora": "LoRA",
    "lr": "learning rate",
    "mae": "MAE",
    "max": "highest",
    "min": "lowest",
    "mse": "MSE",
    "peft": "PEFT",
    "rms": "RMS",
    "snr": "SNR",
    "vae": "VAE",
    "dir": "folder",
}


def label_of(key: str) -> str:
    """Words for a key.

    >>> label_of("batch_size"), label_of("lora_rank"), label_of("use_dora")
    ('Batch size', 'LoRA rank', 'DoRA')
    """
    if key in _LABELS:
        return _LABELS[key]
    text = " ".join(_WORDS.get(word, word) for word in key.split("_"))
    return text[:1].upper() + text[1:]

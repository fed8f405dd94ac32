"""File names of peft's ``save_pretrained``, without torch."""

from __future__ import annotations

__all__ = ["CONFIG", "WEIGHTS"]

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

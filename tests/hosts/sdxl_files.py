"""A tiny SDXL, and a DoRA of it on all linear layers and convolutions."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from host_folder import HostFolder

from helpers.runs import tiny_config
from helpers.tiny_sdxl import build_tiny_sdxl
from stiefel_lora.training.trainer import train

__all__ = ["make_folder"]


def make_folder(root: Path) -> HostFolder:
    """Write the model and the DoRA; the file in PEFT's format lies beside."""
    model = build_tiny_sdxl(root / "model")
    torch.manual_seed(1)
    config = UNet2DConditionModel.load_config(model / "unet")
    # Widths that the hosts' 32 groups divide.
    changed = {"block_out_channels": [32, 64, 64], "norm_num_groups": 32}
    unet = UNet2DConditionModel.from_config({**config, **changed})
    unet.save_pretrained(model / "unet")
    settings = {
        "run_name": "dora",
        "use_dora": True,
        "layer_filter": [],
        "layer_filter_preset": "full",
        "conv_rank": 2,
        "learning_rate": 0.1,
    }
    kohya, peft = train(tiny_config(model, root, **settings)).lora_files
    (root / "loras").mkdir()
    kohya.rename(root / "loras" / "dora.safetensors")
    peft.rename(root / "peft.safetensors")
    return HostFolder(root)

"""A tiny SD 1.5, LoRA files of it, and what diffusers makes of them."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from encoder_files import save_encoders
from host_folder import HostFolder
from safetensors.torch import save_file

from helpers.runs import tiny_config
from helpers.tiny_sd15 import WIDTH, build_tiny_sd15
from stiefel_lora.files import load_lora, save_peft
from stiefel_lora.training.trainer import train

__all__ = ["make_folder", "output"]


def make_folder(root: Path) -> HostFolder:
    """Write the model, a LoRA on all its layers and CLIP, and a DoRA."""
    model = build_tiny_sd15(root / "model")
    _widen_unet(model / "unet")
    (root / "loras").mkdir()
    encoders = {"train_text_encoder": True, "text_encoder_learning_rate": 0.1}
    for name, changes in (("trained", encoders), ("dora", {"use_dora": True})):
        settings = {
            "model_type": "sd15",
            "run_name": name,
            "layer_filter": [],
            "layer_filter_preset": "full",
            "conv_rank": 2,
            "learning_rate": 0.1,
            **changes,
        }
        result = train(tiny_config(model, root, **settings))
        for file, ending in zip(result.lora_files, ("", "_peft"), strict=True):
            file.rename(root / "loras" / f"{name}{ending}.safetensors")
    save_encoders(root, StableDiffusionPipeline.from_pretrained(model))
    random = torch.Generator().manual_seed(3)
    inputs = {
        "latents": torch.randn(1, 4, 8, 8, generator=random),
        "context": torch.randn(1, 7, WIDTH, generator=random),
        "timestep": torch.tensor([300]),
    }
    save_file(inputs, root / "inputs.safetensors")
    return HostFolder(root)


def _widen_unet(folder: Path) -> None:
    """Widths that the hosts' 32 groups and 8 heads divide."""
    torch.manual_seed(1)
    config = UNet2DConditionModel.load_config(folder)
    changed = {
        "block_out_channels": [32, 32, 64, 64],
        "norm_num_groups": 32,
        "attention_head_dim": 8,
    }
    model = UNet2DConditionModel.from_config({**config, **changed})
    model.save_pretrained(folder)


def output(
    folder: HostFolder, file: Path | None, without: tuple[str, ...] = ()
) -> torch.Tensor:
    """What diffusers' UNet predicts with a PEFT file.

    Args:
        folder: the material.
        file: in PEFT's format; None for the model alone.
        without: layers whose LoRA is left out.
    """
    pipeline = StableDiffusionPipeline.from_pretrained(folder.root / "model")
    weights = load_lora(file) if file else {}
    kept = {n: f for n, f in weights.items() if n.startswith("unet.")}
    for name in without:
        del kept[f"unet.{name}"]
    if kept:
        trimmed = folder.root / "trimmed"
        save_peft(trimmed / "lora.safetensors", kept)
        pipeline.load_lora_weights(trimmed, weight_name="lora.safetensors")
    given = folder.inputs()
    with torch.no_grad():
        inputs = (given["latents"], given["timestep"], given["context"])
        return pipeline.unet(*inputs).sample

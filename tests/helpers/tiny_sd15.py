"""A complete, random, tiny StableDiffusionPipeline folder of the real classes.

Four U-Net levels with ``layers_per_block=2`` and convolutions as ``proj_in``, as in
SD 1.5; CLIP's own vocabulary, as in every checkpoint.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from stiefel_lora.checkpoints.supplied_parts import ClipTokenizer

from .tiny_sdxl import text_config, tiny_vae

__all__ = ["build_tiny_sd15"]

WIDTH = 16


def build_tiny_sd15(
    folder: Path, seed: int = 0, prediction_type: str = "epsilon"
) -> Path:
    """Write the pipeline to ``folder`` (float32 safetensors) and return the folder."""
    torch.manual_seed(seed)
    tokenizer = ClipTokenizer("<|endoftext|>").load(CLIPTokenizer, None)
    absent = {"safety_checker": None, "feature_extractor": None}
    StableDiffusionPipeline(
        vae=tiny_vae(attention=True),
        text_encoder=CLIPTextModel(text_config(WIDTH, len(tokenizer))),
        tokenizer=tokenizer,
        unet=_unet(),
        scheduler=PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type=prediction_type,
            set_alpha_to_one=False,
            skip_prk_steps=True,
            steps_offset=1,
        ),
        **absent,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def _unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 16, 32, 32),
        layers_per_block=2,
        down_block_types=(*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
        attention_head_dim=2,
        norm_num_groups=8,
        cross_attention_dim=WIDTH,
    )

"""Make a tiny random model that OneTrainer can train; runs in its environment, with
tests/ in PYTHONPATH.

    python onetrainer_model.py sd15|sdxl|flux FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import loadable_torchvision  # noqa: F401
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel

from helpers.byte_tokenizer import byte_tokenizer
from helpers.tiny_flux import build_tiny_flux
from helpers.tiny_sdxl import build_tiny_sdxl

WIDTH = 32


def build_tiny_sd15(folder: Path) -> None:
    """Write a diffusers folder."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer(folder.parent / "tokenizer")
    words = len(tokenizer)
    text = CLIPTextConfig(
        vocab_size=words,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
    )
    StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(16, 16, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=8,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(WIDTH, WIDTH, WIDTH, WIDTH),
            layers_per_block=1,
            attention_head_dim=2,
            norm_num_groups=8,
            cross_attention_dim=WIDTH,
        ),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


if __name__ == "__main__":
    builders = {
        "sd15": build_tiny_sd15,
        "sdxl": build_tiny_sdxl,
        "flux": build_tiny_flux,
    }
    builders[sys.argv[1]](Path(sys.argv[2]))

"""Make a tiny random SDXL that sd-scripts can train; runs in its environment,
with tests/ in PYTHONPATH.

    python sd_scripts_model.py FOLDER

Widths are as small as the host's code allows: its text encoders must be 768 and 1280
wide, its UNet has SDXL's depths, so that all 722 layers get a LoRA.
"""

from __future__ import annotations

import sys
from pathlib import Path

import loadable_torchvision  # noqa: F401
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from helpers.byte_tokenizer import byte_tokenizer

CHANNELS = 32
TOKENIZERS = (
    "openai_clip-vit-large-patch14",
    "laion_CLIP-ViT-bigG-14-laion2B-39B-b160k",
)


def main(folder: Path) -> None:
    """Write ``model``, a diffusers folder, and ``tokenizers`` beside it."""
    torch.manual_seed(0)
    tokenizers = []
    for name in TOKENIZERS:
        tokenizers.append(byte_tokenizer(folder / "tokenizers" / name))
        tokenizers[-1].save_pretrained(folder / "tokenizers" / name)
    words = len(tokenizers[0])
    # That of SDXL, which the host uses for every model.
    tokenizers[1].pad_token = "!"
    pipeline = StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(768, layers=12, words=words)),
        text_encoder_2=CLIPTextModelWithProjection(
            _text_config(1280, layers=2, words=words)
        ),
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        unet=_unet(),
        # Those of SDXL, which the host uses for every model, too.
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
        ),
    )
    pipeline.save_pretrained(folder / "model")


def narrow_sdxl() -> None:
    """Let the host build its UNet as narrow; runs in its environment."""
    from library import sdxl_original_unet

    sdxl_original_unet.MODEL_CHANNELS = CHANNELS
    sdxl_original_unet.TIME_EMBED_DIM = 4 * CHANNELS


def _unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(CHANNELS, 2 * CHANNELS, 4 * CHANNELS),
        down_block_types=(
            "DownBlock2D",
            "CrossAttnDownBlock2D",
            "CrossAttnDownBlock2D",
        ),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(1, 1, 2),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
    )


def _text_config(width: int, layers: int, words: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        projection_dim=width,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))

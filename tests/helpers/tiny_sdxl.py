"""A complete, random, tiny StableDiffusionXLPipeline folder of the real classes.

Three U-Net levels with ``layers_per_block=2`` as in SDXL, so that the real rules for
key names apply; pictures of 64 px become latents of 16 x 16; tokenizers of bytes, made
here. Takes about a second to build and one more to load.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from stiefel_lora.checkpoints.supplied_parts import ClipTokenizer

from .byte_tokenizer import TOKENS, byte_tokenizer

__all__ = ["build_tiny_sdxl", "text_config", "tiny_unet", "tiny_vae"]

TEXT_WIDTHS = (16, 24)


def build_tiny_sdxl(folder: Path, seed: int = 0, *, real_words: bool = False) -> Path:
    """Write the pipeline to ``folder`` (float32 safetensors) and return the folder.

    Args:
        folder: new folder.
        seed: of the random weights.
        real_words: with CLIP's own 49,408 tokens and a VAE with attention, as every
            single file has them.
    """
    torch.manual_seed(seed)
    tokenizer, tokenizer_2 = _tokenizers(folder, real_words)
    pipeline = StableDiffusionXLPipeline(
        vae=tiny_vae(attention=real_words),
        text_encoder=CLIPTextModel(text_config(TEXT_WIDTHS[0], len(tokenizer))),
        text_encoder_2=CLIPTextModelWithProjection(
            text_config(TEXT_WIDTHS[1], len(tokenizer))
        ),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=tiny_unet(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
        ),
    )
    pipeline.save_pretrained(folder)
    return folder


def _tokenizers(folder: Path, real_words: bool) -> tuple[CLIPTokenizer, CLIPTokenizer]:
    if real_words:
        first, second = (ClipTokenizer(pad) for pad in ("<|endoftext|>", "!"))
        return first.load(CLIPTokenizer, None), second.load(CLIPTokenizer, None)
    with TemporaryDirectory() as place:
        tokenizer = byte_tokenizer(Path(place, "bytes"))
    return tokenizer, tokenizer


def tiny_unet() -> UNet2DConditionModel:
    """Three levels, widths 16, 32, 32, one transformer layer in each attention."""
    time_ids = 6 * 8
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32, 32),
        layers_per_block=2,
        down_block_types=(
            "DownBlock2D",
            "CrossAttnDownBlock2D",
            "CrossAttnDownBlock2D",
        ),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 1),
        attention_head_dim=(2, 4, 4),
        norm_num_groups=8,
        cross_attention_dim=sum(TEXT_WIDTHS),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=TEXT_WIDTHS[1] + time_ids,
    )


def tiny_vae(*, attention: bool) -> AutoencoderKL:
    """Three levels, with or without attention in the middle."""
    return AutoencoderKL(
        sample_size=64,
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.13025,
        mid_block_add_attention=attention,
    )


def text_config(width: int, vocabulary: int) -> CLIPTextConfig:
    """Two layers of a CLIP text encoder."""
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
    )

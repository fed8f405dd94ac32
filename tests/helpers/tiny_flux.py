"""A complete, random, tiny FluxPipeline folder of the real classes.

One double and one single block; pictures of 64 px become latents of 8 x 8, which are
packed to 4 x 4 tokens; tokenizers of bytes and letters, made here.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from .byte_tokenizer import TOKENS, byte_tokenizer
from .letter_tokenizer import letter_tokenizer

__all__ = ["build_tiny_flux"]

WIDTH, LATENTS = 32, 16


def build_tiny_flux(folder: Path, seed: int = 0, *, guidance: bool = True) -> Path:
    """Write the pipeline to ``folder`` (float32 safetensors) and return the folder.

    Args:
        folder: new folder.
        seed: of the random weights.
        guidance: whether the transformer reads a guidance scale, as dev does and
            schnell does not.
    """
    torch.manual_seed(seed)
    with TemporaryDirectory() as place:
        tokenizer = byte_tokenizer(Path(place, "bytes"))
        letters = letter_tokenizer(Path(place, "letters"))
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            shift=3.0 if guidance else 1.0, use_dynamic_shifting=guidance
        ),
        vae=_vae(),
        text_encoder=CLIPTextModel(_clip_config(len(tokenizer))),
        tokenizer=tokenizer,
        text_encoder_2=T5EncoderModel(_t5_config(len(letters))),
        tokenizer_2=letters,
        transformer=FluxTransformer2DModel(
            in_channels=4 * LATENTS,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            guidance_embeds=guidance,
            axes_dims_rope=(4, 6, 6),
        ),
    ).save_pretrained(folder)
    return folder


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=LATENTS,
        norm_num_groups=4,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def _clip_config(words: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=words,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
    )


def _t5_config(words: int) -> T5Config:
    return T5Config(
        vocab_size=words,
        d_model=WIDTH,
        d_kv=8,
        d_ff=2 * WIDTH,
        num_layers=1,
        num_heads=2,
    )

"""Make a tiny random FLUX pipeline; runs in the environment of diffusers, with tests/
in PYTHONPATH.

    python diffusers_flux_model.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import loadable_torchvision  # noqa: F401
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from helpers.byte_tokenizer import byte_tokenizer
from helpers.letter_tokenizer import letter_tokenizer

WIDTH = 32


def main(folder: Path) -> None:
    """Write a diffusers folder."""
    torch.manual_seed(0)
    bytes_, letters = folder.parent / "bytes", folder.parent / "letters"
    tokenizer, tokenizer_2 = byte_tokenizer(bytes_), letter_tokenizer(letters)
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKL(
            block_out_channels=(16, 16, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=8,
            shift_factor=0.0,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        text_encoder=CLIPTextModel(_clip(len(tokenizer))),
        tokenizer=tokenizer,
        text_encoder_2=T5EncoderModel(_t5(len(tokenizer_2))),
        tokenizer_2=tokenizer_2,
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        ),
    ).save_pretrained(folder)


def _clip(words: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=words,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
    )


def _t5(words: int) -> T5Config:
    return T5Config(
        vocab_size=words,
        d_model=WIDTH,
        d_kv=16,
        d_ff=2 * WIDTH,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))

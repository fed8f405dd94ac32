"""The narrow FLUX.1 of sd-scripts as a folder of diffusers."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from safetensors.torch import load_file
from sd_scripts_flux_model import (
    CLIP,
    CLIP_SIZES,
    CLIP_TOKENS,
    DOUBLE,
    HEADS,
    SINGLE,
    T5,
    T5_SIZES,
    T5_TOKENS,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from stiefel_lora.families.flux_files import BFL

__all__ = ["write_diffusers_folder"]


def write_diffusers_folder(made: Path, folder: Path) -> Path:
    """Convert the files of ``sd_scripts_flux_model.py`` with the file reader.

    The VAE is another one, because the latents are given.
    """
    transformer = FluxTransformer2DModel(
        num_layers=DOUBLE,
        num_single_layers=SINGLE,
        num_attention_heads=HEADS,
        guidance_embeds=True,
    )
    found = BFL[0].convert(load_file(made / "flux.safetensors"), transformer)
    transformer.load_state_dict(found)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=CLIP_TOKENS,
            hidden_size=768,
            num_attention_heads=12,
            eos_token_id=2,
            **CLIP_SIZES,
        )
    )
    text.load_state_dict(_named_as_in(text, load_file(made / "clip_l.safetensors")))
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=T5_TOKENS,
            d_model=4096,
            feed_forward_proj="gated-gelu",
            **T5_SIZES,
        )
    )
    t5.load_state_dict(load_file(made / "t5xxl.safetensors"), strict=False)
    torch.manual_seed(0)
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            latent_channels=16,
            norm_num_groups=4,
            shift_factor=0.1159,
        ),
        text_encoder=text,
        tokenizer=CLIPTokenizer.from_pretrained(made / "tokenizers" / CLIP),
        text_encoder_2=t5,
        tokenizer_2=T5TokenizerFast.from_pretrained(made / "tokenizers" / T5),
        transformer=transformer,
    ).save_pretrained(folder)
    return folder


def _named_as_in(
    model: CLIPTextModel, found: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the tensors by their names in the installed transformers."""
    known = model.state_dict()
    bare = {name.removeprefix("text_model."): value for name, value in found.items()}
    return {
        name: bare[name.removeprefix("text_model.")]
        for name in known
        if "position_ids" not in name
    }

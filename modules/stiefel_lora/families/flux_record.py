"""Record of FLUX.1 (dev, schnell)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .flux_names import OUTSIDE_BLOCKS
from .record import FamilyRecord, HubModel, LoraFileFacts, Relative

__all__ = ["RECORD", "is_guided", "t5_tokens"]

# Tokens of T5 that each model was trained with.
_DEV_TOKENS, _SCHNELL_TOKENS = 512, 256


def is_guided(transformer: Mapping[str, Any]) -> bool:
    """Return whether a transformer has a guidance input (dev, not schnell)."""
    return bool(transformer.get("guidance_embeds", False))


def t5_tokens(transformer: Mapping[str, Any], asked: int | None) -> int:
    """Return the number of T5 tokens per caption: as set, or the default of the model.

    Args:
        transformer: content of ``config.json`` of the transformer.
        asked: value of ``text_encoder_2_sequence_length``, or None.
    """
    return asked or (_DEV_TOKENS if is_guided(transformer) else _SCHNELL_TOKENS)


RECORD = FamilyRecord(
    name="flux",
    label="FLUX.1",
    model="stiefel_lora.families.flux:Flux",
    denoiser="transformer",
    memory="stiefel_lora.memory.flux_steps:FLUX",
    predicts_flow=True,
    # Patches of 2 x 2 latents, which are 8 x 8 pixels each.
    pixel_step=16,
    # The guidance scale is an input of the model, so there is no second pass.
    negative_prompts=False,
    dispatches_attention=True,
    t5_tokens=t5_tokens,
    # As in OneTrainer, the feed-forward layers of the text stream and proj_out are only
    # in "full".
    layer_presets={
        "attn-only": ("attn",),
        "attn-mlp": ("attn", "ff.net", "proj_mlp"),
        "full": (),
    },
    relatives=(
        Relative("FLUX.1 Depth or Canny", channels=128),
        Relative("FLUX.1 Fill", channels=384),
    ),
    strangers={
        "distilled_guidance_layer.": "Chroma",
        "double_stream_modulation_img.": "FLUX.2",
    },
    text_readers={
        "text_encoder": ("text_embedder.linear_1",),
        "text_encoder_2": ("context_embedder",),
    },
    hub_models={
        "black-forest-labs/FLUX.1-dev": HubModel(
            33.7, "FLUX.1 [dev] Non-Commercial License", gated=True
        ),
    },
    lora_files=LoraFileFacts(
        base_version="flux1",
        architecture="flux-1-dev/lora",
        implementation="https://github.com/black-forest-labs/flux",
        network="networks.lora_flux",
        kohya="stiefel_lora.files.keys_flux:FLUX",
        spellings=("OneTrainer (legacy)", "ComfyUI", "original names"),
        notes=("flux1", "flux-1", "flux.1"),
        # Qwen-Image, SD 3 and HunyuanVideo have more.
        blocks={"transformer_blocks": 19, "single_transformer_blocks": 38},
        # T5, the blocks, and the layers outside them, which no other family has.
        marks=(
            *("lora_te3_", "lora_unet_double_blocks_", "lora_unet_single_blocks_"),
            *(f"lora_unet_{name.replace('.', '_')}." for name in OUTSIDE_BLOCKS),
        ),
        fusing="stiefel_lora.files.fused_flux",
        # Tools read its alphas per layer, and fused layers need their own.
        one_alpha=False,
    ),
)

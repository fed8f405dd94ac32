"""Parts of SDXL and FLUX.1 at full size on the meta device: layers without numbers."""

from __future__ import annotations

import torch
from diffusers import FluxTransformer2DModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

__all__ = ["clip_l", "flux_transformer", "linear_layers", "t5_xxl"]


def flux_transformer() -> FluxTransformer2DModel:
    """Transformer of FLUX.1 dev."""
    with torch.device("meta"):
        return FluxTransformer2DModel(guidance_embeds=True)


def clip_l() -> CLIPTextModel:
    """CLIP ViT-L of both families."""
    config = CLIPTextConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        projection_dim=768,
    )
    with torch.device("meta"):
        return CLIPTextModel(config)


def t5_xxl() -> T5EncoderModel:
    """T5 v1.1 XXL of FLUX.1."""
    config = T5Config(
        d_model=4096,
        d_kv=64,
        d_ff=10240,
        num_layers=24,
        num_heads=64,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        return T5EncoderModel(config)


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Name -> layer, in the order of the model."""
    found = model.named_modules()
    return {name: layer for name, layer in found if isinstance(layer, nn.Linear)}

"""The transformer and the T5 encoder: FLUX's structure at a small size."""

from __future__ import annotations

from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from transformers import T5Config, T5EncoderModel, T5Tokenizer

LATENTS = 4
TEXT, POOLED = 128, 128
HEADS, HEAD = 4, 32
DOUBLE, SINGLE = 2, 6


def build_transformer() -> FluxTransformer2DModel:
    """2 double and 6 single blocks of width 128, guided by an embedding as dev is."""
    return FluxTransformer2DModel(
        in_channels=4 * LATENTS,
        num_layers=DOUBLE,
        num_single_layers=SINGLE,
        attention_head_dim=HEAD,
        num_attention_heads=HEADS,
        joint_attention_dim=TEXT,
        pooled_projection_dim=POOLED,
        guidance_embeds=True,
        axes_dims_rope=(8, 12, 12),
    )


def build_t5(tokenizer: T5Tokenizer) -> T5EncoderModel:
    """Two layers of T5 1.1: gated feed-forward, relative positions."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=TEXT,
            d_kv=32,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )

"""Layer names of the FLUX.1 transformer in the original checkpoint and in diffusers.

Keys are the names of Black Forest Labs, and values are those of diffusers. The table is
used for base models (``families.flux_files``) and LoRA files (``files.keys_flux``,
``files.fused_flux``).
"""

from __future__ import annotations

__all__ = [
    "DOUBLE",
    "DOUBLE_BLOCKS",
    "FUSED_DOUBLE",
    "FUSED_SINGLE",
    "HALVES_SWAPPED",
    "OUTSIDE_BLOCKS",
    "SINGLE",
    "SINGLE_BLOCKS",
]

DOUBLE_BLOCKS = ("double_blocks", "transformer_blocks")
SINGLE_BLOCKS = ("single_blocks", "single_transformer_blocks")

HALVES_SWAPPED = "final_layer.adaLN_modulation.1"
"""Layers in which the order of shift and scale differs between both formats."""

OUTSIDE_BLOCKS = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    **{
        f"{old}_in.{layer}_layer": f"time_text_embed.{new}.linear_{number}"
        for old, new in (
            ("time", "timestep_embedder"),
            ("vector", "text_embedder"),
            ("guidance", "guidance_embedder"),
        )
        for layer, number in (("in", 1), ("out", 2))
    },
    HALVES_SWAPPED: "norm_out.linear",
    "final_layer.linear": "proj_out",
}

DOUBLE = {
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
SINGLE = {"modulation.lin": "norm.linear", "linear2": "proj_out"}

# One layer of the original is several layers of diffusers, with concatenated rows.
FUSED_DOUBLE = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
FUSED_SINGLE = {"linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")}

"""FLUX.1's transformer as Black Forest Labs names it, in diffusers' names.

diffusers' own converter holds the width 3072 and copies every tensor; this one takes
the width from the file and slices, so that weights stay where they are in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.layouts import Layout, Tensors, own

__all__ = ["BFL", "flux_config"]

_OUTSIDE = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "final_layer.linear": "proj_out",
    **{
        f"{old}_in.{layer}_layer": f"time_text_embed.{new}.linear_{number}"
        for old, new in (
            ("time", "timestep_embedder"),
            ("vector", "text_embedder"),
            ("guidance", "guidance_embedder"),
        )
        for layer, number in (("in", 1), ("out", 2))
    },
}
_DOUBLE = {
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
_DOUBLE_NORMS = {
    "img_attn.norm.query_norm.scale": "attn.norm_q.weight",
    "img_attn.norm.key_norm.scale": "attn.norm_k.weight",
    "txt_attn.norm.query_norm.scale": "attn.norm_added_q.weight",
    "txt_attn.norm.key_norm.scale": "attn.norm_added_k.weight",
}
_SINGLE = {"modulation.lin": "norm.linear", "linear2": "proj_out"}
_SINGLE_NORMS = {
    "norm.query_norm.scale": "attn.norm_q.weight",
    "norm.key_norm.scale": "attn.norm_k.weight",
}
_FUSED = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
}


def flux_config(config: dict[str, Any], names: Mapping[str, object]) -> dict[str, Any]:
    """Depth and guidance as the file has them: dev, schnell and pruned relatives.

    Args:
        config: of a FLUX.1 transformer.
        names: of the file's tensors, without prefix, in this layout or diffusers'.
    """
    doubles = _depth(names, "double_blocks") or _depth(names, "transformer_blocks")
    singles = _depth(names, "single_blocks")
    singles = singles or _depth(names, "single_transformer_blocks")
    return {
        **config,
        "num_layers": doubles,
        "num_single_layers": singles,
        "guidance_embeds": any("guidance" in name for name in names),
    }


def _depth(names: Mapping[str, object], blocks: str) -> int:
    return len({n.split(".")[1] for n in names if n.startswith(f"{blocks}.")})


def _convert(tensors: Tensors, model: Any) -> Tensors:
    width = tensors["img_in.weight"].shape[0]
    found: Tensors = {}
    for name, tensor in tensors.items():
        for target, piece in _renamed(name, tensor, width):
            found[target] = piece
    return found


def _renamed(name: str, tensor: Tensor, width: int) -> list[tuple[str, Tensor]]:
    head, _, rest = name.partition(".")
    if head == "double_blocks":
        return _in_block(rest, tensor, width, "transformer_blocks", _DOUBLE)
    if head == "single_blocks":
        return _in_block(rest, tensor, width, "single_transformer_blocks", _SINGLE)
    stem, _, kind = name.rpartition(".")
    if stem == "final_layer.adaLN_modulation.1":
        # BFL stores shift before scale, diffusers scale before shift.
        shift, scale = tensor.chunk(2, dim=0)
        return [(f"norm_out.linear.{kind}", torch.cat([scale, shift]))]
    return [(f"{_OUTSIDE[stem]}.{kind}", tensor)] if stem in _OUTSIDE else []


def _in_block(
    rest: str, tensor: Tensor, width: int, blocks: str, plain: Mapping[str, str]
) -> list[tuple[str, Tensor]]:
    number, _, leaf = rest.partition(".")
    stem, _, kind = leaf.rpartition(".")
    norm = {**_DOUBLE_NORMS, **_SINGLE_NORMS}.get(leaf)
    if norm is not None:
        return [(f"{blocks}.{number}.{norm}", tensor)]
    if stem in plain:
        return [(f"{blocks}.{number}.{plain[stem]}.{kind}", tensor)]
    parts = _FUSED.get(stem, ())
    sizes = [width] * 3 + [tensor.shape[0] - 3 * width] * (len(parts) - 3)
    pieces = tensor.split(sizes, dim=0) if parts else ()
    return [
        (f"{blocks}.{number}.{part}.{kind}", piece)
        for part, piece in zip(parts, pieces, strict=True)
    ]


BFL = (
    Layout("double_blocks.", _convert),
    own("transformer_blocks."),
)

"""Loading of FLUX.1 models from single files.

Checkpoints of Black Forest Labs contain only the transformer. "All in one" files of
ComfyUI also contain the other components, with prefixes. The converter of diffusers
assumes a width of 3072 and copies every tensor. This module reads the width from the
file and slices tensors, so that weights stay memory-mapped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor

from ..checkpoints.facts import InFiles
from ..checkpoints.header import Header
from ..checkpoints.layouts import CLIP, LDM_VAE, T5, Layout, Tensors, own
from .flux_names import (
    DOUBLE,
    DOUBLE_BLOCKS,
    FUSED_DOUBLE,
    FUSED_SINGLE,
    HALVES_SWAPPED,
    OUTSIDE_BLOCKS,
    SINGLE,
    SINGLE_BLOCKS,
)

__all__ = ["BFL", "FLUX_FILES", "flux_config", "flux_scheduler", "is_flux_file"]

_PREFIXES = ("model.diffusion_model.", "")
_DOUBLE_NORMS = {
    "img_attn.norm.query_norm.scale": "attn.norm_q.weight",
    "img_attn.norm.key_norm.scale": "attn.norm_k.weight",
    "txt_attn.norm.query_norm.scale": "attn.norm_added_q.weight",
    "txt_attn.norm.key_norm.scale": "attn.norm_added_k.weight",
}
_SINGLE_NORMS = {
    "norm.query_norm.scale": "attn.norm_q.weight",
    "norm.key_norm.scale": "attn.norm_k.weight",
}


def is_flux_file(header: Header) -> bool:
    """Return whether a file contains a FLUX.1 transformer."""
    return any(
        header.any(f"{prefix}{name}")
        for prefix in _PREFIXES
        for name in (
            "double_blocks.0.img_mod.",
            "double_blocks.1.img_mod.",
            "single_transformer_blocks.",
        )
    )


def flux_scheduler(known: dict[str, Any], header: Header) -> dict[str, Any]:
    """Return the settings of the scheduler. The shift of schnell is 1."""
    if any("guidance" in name for name in header.entries):
        return known
    return {**known, "shift": 1.0, "use_dynamic_shifting": False}


def _adapt(config: dict[str, Any], header: Header, prefix: str) -> dict[str, Any]:
    names = [name[len(prefix) :] for name in header.entries if name.startswith(prefix)]
    return flux_config(config, dict.fromkeys(names))


def flux_config(config: dict[str, Any], names: Mapping[str, object]) -> dict[str, Any]:
    """Return the settings of a transformer, with depth and guidance read from a file.

    Args:
        config: settings of a FLUX.1 transformer.
        names: tensor names of the file without prefix, in the original layout or that
            of diffusers.
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
        return _in_block(rest, tensor, width, DOUBLE_BLOCKS[1], DOUBLE)
    if head == "single_blocks":
        return _in_block(rest, tensor, width, SINGLE_BLOCKS[1], SINGLE)
    stem, _, kind = name.rpartition(".")
    if stem == HALVES_SWAPPED:
        shift, scale = tensor.chunk(2, dim=0)
        return [(f"{OUTSIDE_BLOCKS[stem]}.{kind}", torch.cat([scale, shift]))]
    return (
        [(f"{OUTSIDE_BLOCKS[stem]}.{kind}", tensor)] if stem in OUTSIDE_BLOCKS else []
    )


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
    parts = {**FUSED_DOUBLE, **FUSED_SINGLE}.get(stem, ())
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

FLUX_FILES = {
    "transformer": InFiles(
        diffusers.FluxTransformer2DModel, ("model.diffusion_model.",), BFL, _adapt
    ),
    "vae": InFiles(diffusers.AutoencoderKL, ("vae.", "first_stage_model."), LDM_VAE),
    "text_encoder": InFiles(
        transformers.CLIPTextModel, ("text_encoders.clip_l.transformer.",), CLIP
    ),
    "text_encoder_2": InFiles(
        transformers.T5EncoderModel, ("text_encoders.t5xxl.transformer.",), T5
    ),
}

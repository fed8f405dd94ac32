"""How the parts of a model are named in files that are not in diffusers layout.

A layout is told by one tensor's name and turned into the names of diffusers (U-Net,
VAE) and transformers (text encoders) by their own converters where they have one. These
only rename and slice, so it makes no difference whether tensors are real or without
numbers (meta device): what loads is what was checked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from torch import Tensor

__all__ = ["CLIP", "LDM_UNET", "LDM_VAE", "OPEN_CLIP", "T5", "Layout", "Tensors", "own"]

Tensors = dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Layout:
    """A way to name the tensors of a part."""

    probe: str
    """Name that only this layout has, after the part's prefix."""

    convert: Callable[[Tensors, Any], Tensors]
    """From names without prefix to those of the model, which comes second."""


def own(probe: str) -> Layout:
    """The names of diffusers or transformers themselves."""
    return Layout(probe, lambda tensors, model: tensors)


def _unet(tensors: Tensors, model: Any) -> Tensors:
    prefixed = {f"model.diffusion_model.{name}": t for name, t in tensors.items()}
    return convert_ldm_unet_checkpoint(prefixed, dict(model.config))


def _vae(tensors: Tensors, model: Any) -> Tensors:
    return convert_ldm_vae_checkpoint(dict(tensors), dict(model.config))


def _open_clip(tensors: Tensors, model: Any) -> Tensors:
    return _clip(convert_open_clip_checkpoint(model, tensors, prefix=""), model)


def _clip(tensors: Tensors, model: Any) -> Tensors:
    # transformers 5.6 took the level text_model out of one of its two classes.
    level = "text_model."
    bare = {name.removeprefix(level): tensor for name, tensor in tensors.items()}
    if not hasattr(model, "text_model"):
        return bare
    outside = "text_projection"
    return {
        name if name.startswith(outside) else level + name: tensor
        for name, tensor in bare.items()
    }


def _t5(tensors: Tensors, model: Any) -> Tensors:
    embedding = tensors.get("shared.weight", tensors.get("encoder.embed_tokens.weight"))
    if embedding is None:
        return tensors
    # One tensor under two names; files have one of them or both.
    twice = ("shared.weight", "encoder.embed_tokens.weight")
    return {**tensors, **dict.fromkeys(twice, embedding)}


LDM_UNET = (
    Layout("input_blocks.0.0.weight", _unet),
    own("down_blocks.0.resnets.0.conv1.weight"),
)
LDM_VAE = (
    Layout("encoder.down.0.block.0.conv1.weight", _vae),
    own("encoder.down_blocks.0.resnets.0.conv1.weight"),
)
CLIP = (
    Layout("text_model.embeddings.token_embedding.weight", _clip),
    Layout("embeddings.token_embedding.weight", _clip),
)
OPEN_CLIP = (Layout("transformer.resblocks.0.attn.in_proj_weight", _open_clip), *CLIP)
T5 = (Layout("encoder.block.0.layer.0.SelfAttention.q.weight", _t5),)

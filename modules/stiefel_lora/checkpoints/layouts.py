"""Naming schemes of tensors in files that are not in the diffusers format.

A layout is recognized by prefixes. Names are converted to those of diffusers (U-Net,
VAE) and transformers (text encoders), with the converters of these packages if there
are any. Converters only rename and slice tensors, so that they can also be used on the
meta device to check a file.
"""

from __future__ import annotations

import dataclasses
import re
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

_NEW_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_ATTENTION = re.compile(rf"(\.attentions\.0\.)({'|'.join(_NEW_NAMES)})(?=\.)")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Naming scheme of the tensors of a component."""

    start: str
    """Prefixes of names that are specific to this layout."""

    convert: Callable[[Tensors, Any], Tensors]
    """Function that converts tensors with names of this layout to those of a model."""

    in_folders: bool = False
    """Whether ``from_pretrained`` supports this layout."""


def own(start: str, convert: Callable[[Tensors, Any], Tensors] | None = None) -> Layout:
    """Create the layout of diffusers or transformers."""
    return Layout(start, convert or (lambda tensors, model: tensors), in_folders=True)


def _unet(tensors: Tensors, model: Any) -> Tensors:
    prefixed = {f"model.diffusion_model.{name}": t for name, t in tensors.items()}
    return convert_ldm_unet_checkpoint(prefixed, dict(model.config))


def _vae(tensors: Tensors, model: Any) -> Tensors:
    return convert_ldm_vae_checkpoint(dict(tensors), dict(model.config))


def _own_vae(tensors: Tensors, model: Any) -> Tensors:
    # Names of attention in diffusers before 0.12, which it still reads.
    return {_OLD_ATTENTION.sub(_new_name, name): t for name, t in tensors.items()}


def _new_name(match: re.Match[str]) -> str:
    return match[1] + _NEW_NAMES[match[2]]


def _open_clip(tensors: Tensors, model: Any) -> Tensors:
    return _clip(convert_open_clip_checkpoint(model, tensors, prefix=""), model)


def _clip(tensors: Tensors, model: Any) -> Tensors:
    # transformers 5.6 removed the level text_model from one of its two classes.
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
    # One tensor with two names; files have either of them or both.
    twice = ("shared.weight", "encoder.embed_tokens.weight")
    return {**tensors, **dict.fromkeys(twice, embedding)}


LDM_UNET = (Layout("input_blocks.", _unet), own("down_blocks."))
LDM_VAE = (Layout("encoder.down.", _vae), own("encoder.down_blocks.", _own_vae))
CLIP = (own("text_model.", _clip), own("encoder.layers.", _clip))
OPEN_CLIP = (Layout("transformer.resblocks.", _open_clip), *CLIP)
T5 = (own("encoder.block.", _t5),)

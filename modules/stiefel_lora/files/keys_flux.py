"""Names of FLUX.1's modules: canonical (original paths) and kohya (underscored).

The transformer's layers have the names of the original checkpoint here, which fuses
what diffusers keeps apart: ``files.fused_flux`` goes between the two. Underscores can
not be parsed back into dots without guessing, so both directions are one table.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from .._exceptions import ModelError
from .encoder_names import clip_layers, t5_layers

__all__ = ["MAX_BLOCKS", "OUTSIDE_BLOCKS", "from_kohya", "kohya_names", "to_kohya"]

MAX_BLOCKS = 64
"""Blocks of a kind that have names; FLUX.1 has 19 double and 38 single ones."""

OUTSIDE_BLOCKS = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
"""Path in diffusers -> path in the original checkpoint."""

_SIDE = ("attn.qkv", "attn.proj", "mlp.0", "mlp.2", "mod.lin")
_DOUBLE = tuple(f"{side}_{leaf}" for side in ("img", "txt") for leaf in _SIDE)
_SINGLE = ("linear1", "linear2", "modulation.lin")


def to_kohya(name: str) -> str:
    """Canonical name -> stem of the kohya keys.

    ``transformer.double_blocks.0.img_attn.qkv`` ->
    ``lora_unet_double_blocks_0_img_attn_qkv``

    Raises:
        ModelError: FLUX.1 has no such module.
    """
    stem = kohya_names().get(name)
    if stem is None:
        raise ModelError(
            f"{name!r} has no kohya name: it is no layer of a FLUX.1 model. Write the "
            f"PEFT format instead."
        )
    return stem


def from_kohya(stem: str) -> str:
    """Stem of the kohya keys -> canonical name, the inverse of ``to_kohya``.

    Raises:
        ModelError: no module of a FLUX.1 model has this stem.
    """
    name = _inverse().get(stem)
    if name is None:
        raise ModelError(
            f"{stem!r} names no layer of a FLUX.1 model in kohya's spelling."
        )
    return name


@functools.cache
def kohya_names() -> dict[str, str]:
    """Canonical name -> stem of the kohya keys, for every layer of the family."""
    pairs = [(f"transformer.{path}", f"lora_unet_{path}") for path in _transformer()]
    pairs += [(f"text_encoder.{path}", f"lora_te1_{path}") for path in clip_layers()]
    # sd-scripts counts T5 as the third encoder in all families.
    pairs += [(f"text_encoder_2.{path}", f"lora_te3_{path}") for path in t5_layers()]
    return {name: stem.replace(".", "_") for name, stem in pairs}


@functools.cache
def _inverse() -> dict[str, str]:
    return {stem: name for name, stem in kohya_names().items()}


def _transformer() -> Iterator[str]:
    yield from OUTSIDE_BLOCKS.values()
    for block in range(MAX_BLOCKS):
        yield from (f"double_blocks.{block}.{leaf}" for leaf in _DOUBLE)
        yield from (f"single_blocks.{block}.{leaf}" for leaf in _SINGLE)

"""Detection of unsupported models by the names and sizes of layers in LoRA files."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

__all__ = [
    "MARKS",
    "NOTES",
    "OMI",
    "REFINER",
    "marked",
    "variant_of",
    "with_other_ratios",
    "with_the_same_names",
]

OMI = "FLUX.1 (OMI)"
"""FLUX.1 in the OMI format of older versions of OneTrainer, which is not supported."""

MARKS = {
    "FLUX.2": r"to_qkv_mlp_proj|stream_modulation|_ff(_context)?_linear_(in|out)",
    "HunyuanVideo": r"double_blocks_\d+_(img|txt)_(mlp_fc[12]|mod_linear)",
    "Qwen-Image": r"^transformer_blocks_\d+_(img|txt)_(mlp|mod)_",
    "Z-Image": r"^(layers|noise_refiner|context_refiner)_\d+_(attention|feed_forward)_",
    "Wan": r"^blocks_\d+_((self|cross)_attn_([qkvo]|[kv]_img)|ffn_[02])$",
    "Cosmos": r"^blocks_\d+_((self|cross)_attn_(q|k|v|output)_proj|mlp_layer[12])$",
    "Krea 2": r"^blocks_\d+_(attn_(wq|wk|wv|wo|gate)|mlp_(gate|up|down))$|^txtfusion",
    "SD 3": r"^joint_blocks_\d+_",
    # q, k, v and the MLP are separate, with the number of the part.
    OMI: r"^(double_blocks_\d+_(img|txt)_attn_qkv|single_blocks_\d+_linear1)_\d$",
}
"""Regular expressions for layer names that are specific to each model."""

NOTES = {
    "FLUX.2": ("flux2", "flux-2", "flux.2"),
    "Chroma": ("chroma",),
    "HunyuanVideo": ("hunyuan-video", "hunyuan_video", "hunyuanvideo"),
    "Lumina 2": ("lumina2", "lumina-2"),
    "Anima": ("anima",),
}
"""Prefixes of ``ss_base_model_version`` and ``modelspec.architecture`` by model."""

# Models whose layers have the names of other models.
_SAME_NAMES = {"Z-Image": "Lumina 2", "Cosmos": "Anima"}
_LUMINA_WIDTH = 2304
_LUMINA_INPUTS = re.compile(r"^layers_\d+_(attention|feed_forward_w[13])")
REFINER = "SDXL refiner"
"""UNet whose layers have the names, but not the places, of those of SDXL and SD 1.5."""

_VARIANTS = {
    "SD 2": (1024, ("sd_v2", "stable-diffusion-v2")),
    REFINER: (1280, ("sdxl_refiner", "stable-diffusion-xl-v1-refiner")),
    "Kolors": (4096, ("kolors",)),
}
_CROSS = re.compile(
    r"^((down|up)_blocks_\d+|mid_block)_attentions_\d+_\w*attn2_to_[kv]$"
    r"|^((in|out)put_blocks_\d+|middle_block)_1_\w*attn2_to_[kv]$"
)

_NOTED = ("ss_base_model_version", "modelspec.architecture")
_BLOCK = re.compile(r"((?:single_)?transformer_blocks)_(\d+)_")
_ATTENTION = re.compile(r"^transformer_blocks_\d+_attn_(to|add)_[qkv](_proj)?$")
_SD3_WIDTHS = {1536, 2432}
_QWEN_WIDTH = 3072
# Rows of a fused layer for each of its inputs: FLUX.2 has gated MLPs.
_FLUX2_RATIO = {r"^single_blocks_\d+_linear1$": 9, r"_mlp_0$": 6}

Sizes = Collection[tuple[str, int, int]]
"""Numbers of outputs and inputs by layer path with underscores."""


def marked(sizes: Sizes, noted: str | None) -> str | None:
    """Return a model with specific layer names, or None.

    Args:
        sizes: numbers of outputs and inputs.
        noted: model in the metadata, which decides between models with the same names.
    """
    for label, mark in MARKS.items():
        if any(re.search(mark, path) for path, *_ in sizes):
            other = _SAME_NAMES.get(label)
            widths = {n for path, _, n in sizes if _LUMINA_INPUTS.search(path)}
            narrow = label == "Z-Image" and widths == {_LUMINA_WIDTH}
            return other if other and (noted == other or narrow) else label
    return None


def variant_of(sizes: Sizes, metadata: Mapping[str, str], widths: set[int]) -> str:
    """Return a model with the layer names of a UNet family, but other shapes, or "".

    Args:
        sizes: numbers of outputs and inputs.
        metadata: metadata of the file.
        widths: text widths of the supported families.
    """
    found = {inputs for path, _, inputs in sizes if _CROSS.search(path)}
    for label, (width, _) in _VARIANTS.items():
        if width in found:
            return label
    if found & widths:
        return ""
    notes = [metadata.get(x, "").lower() for x in _NOTED]
    for label, (_, beginnings) in _VARIANTS.items():
        if any(text.startswith(beginnings) for text in notes):
            return label
    return "SD 2" if metadata.get("ss_v2", "").lower() == "true" else ""


def with_other_ratios(sizes: Sizes) -> str | None:
    """Return a model that has the layer names of a family, but other shapes."""
    for path, outputs, inputs in sizes:
        for mark, ratio in _FLUX2_RATIO.items():
            blocks = path.startswith(("single_blocks_", "double_blocks_"))
            if blocks and re.search(mark, path) and outputs == ratio * inputs:
                return "FLUX.2"
    return None


def with_the_same_names(sizes: Sizes, blocks: Mapping[str, int]) -> str | None:
    """Return a model that has the layer names of a family and more blocks.

    "" if it is unknown. None if the number of blocks is that of the family.
    """
    widths = {inputs for path, _, inputs in sizes if _ATTENTION.search(path)}
    if widths and widths <= _SD3_WIDTHS:
        return "SD 3"
    most: dict[str, int] = {}
    for found in (_BLOCK.match(path) for path, *_ in sizes):
        if found is not None:
            most[found[1]] = max(most.get(found[1], -1), int(found[2]))
    if all(most.get(kind, -1) < number for kind, number in blocks.items()):
        return None
    if "single_transformer_blocks" in most:
        return "HunyuanVideo"
    return "Qwen-Image" if widths == {_QWEN_WIDTH} else ""

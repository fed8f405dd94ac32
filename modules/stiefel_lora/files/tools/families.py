"""The model family of a LoRA file, by the names and sizes of its layers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from ...families.catalogue import family_names
from .layer_names import MODEL, StemName, canonical

__all__ = ["family_of"]

_TRAINED = family_names()
# Underscored paths of families that are read without a table.
_MARKS = {
    "FLUX.2": r"to_qkv_mlp_proj|stream_modulation|_ff(_context)?_linear_(in|out)",
    "HunyuanVideo": r"double_blocks_\d+_(img|txt)_(mlp_fc[12]|mod_linear)",
    "Qwen-Image": r"^transformer_blocks_\d+_(img|txt)_(mlp|mod)_",
    "Z-Image": r"^(layers|noise_refiner|context_refiner)_\d+_(attention|feed_forward)_",
    "Wan": r"^blocks_\d+_(self_attn|cross_attn|ffn)_",
    "Krea 2": r"^blocks_\d+_(attn_(wq|wk|wv|wo|gate)|mlp_(gate|up|down))$|^txtfusion",
    "SD 3": r"^joint_blocks_\d+_",
}
# Beginnings of ss_base_model_version and modelspec.architecture.
_NOTES = {
    "sdxl": ("sdxl", "stable-diffusion-xl"),
    "sd15": ("sd_v1", "sd_1", "stable-diffusion-v1"),
    "flux": ("flux1", "flux-1", "flux.1"),
    "FLUX.2": ("flux2", "flux-2", "flux.2"),
    "Chroma": ("chroma",),
    "HunyuanVideo": ("hunyuan-video", "hunyuan_video", "hunyuanvideo"),
}
_SD15 = re.compile(
    r"^down_blocks_(0_attentions|3_)|^up_blocks_3_|"
    r"^input_blocks_[12]_1_|^(in|out)put_blocks_(9|1[01])_"
)
_SDXL = re.compile(
    r"^(in|out)put_blocks_|^middle_block_|^(label_emb|add_embedding)|"
    r"^up_blocks_0_attentions|_transformer_blocks_[1-9]"
)
_CROSS = re.compile(r"attn2_to_[kv]$")
_CROSS_WIDTH = {768: "sd15", 2048: "sdxl"}
# FLUX.1 has 19 double and 38 single blocks; Qwen-Image, SD 3 and HunyuanVideo have
# more with the same names.
_FLUX_DOUBLE, _FLUX_SINGLE = 19, 38
_FLUX_BLOCK = re.compile(r"(?P<single>single_)?transformer_blocks_(?P<n>\d+)_")
_FLUX_ATTENTION = re.compile(r"^transformer_blocks_\d+_attn_(to|add)_[qkv](_proj)?$")
_SD3_WIDTHS = {1536, 2432}
_QWEN_WIDTH = 3072
# Rows of a fused layer for each of its inputs: FLUX.2 has gated MLPs.
_FLUX2_RATIO = {r"^single_blocks_\d+_linear1$": 9, r"_mlp_0$": 6}

Shapes = Mapping[StemName, tuple[int, int]]
"""Layer -> outputs and inputs."""


def family_of(shapes: Shapes, metadata: Mapping[str, str]) -> str | None:
    """Find the family; None where names, sizes and metadata leave it open.

    The metadata decides only among the families that have all the layers' names.

    >>> family_of({StemName("", "model", "single_blocks.0.linear1"): (21504, 3072)}, {})
    'flux'
    """
    paths = {
        name: name.path.replace(".", "_") for name in shapes if name.component == MODEL
    }
    noted = _noted(metadata)
    for label, mark in _MARKS.items():
        if any(re.search(mark, path) for path in paths.values()):
            return label
    if _is_flux2(shapes, paths):
        return "FLUX.2"
    possible = [f for f in _TRAINED if all(canonical(n, f) is not None for n in shapes)]
    if "flux" in possible:
        other = _flux_relative(shapes, paths)
        if other:
            return other
        if other is not None:
            possible.remove("flux")
    if noted is not None and (noted in possible or noted not in _TRAINED):
        return noted
    return _by_place(shapes, paths, possible)


def _noted(metadata: Mapping[str, str]) -> str | None:
    for entry in ("ss_base_model_version", "modelspec.architecture"):
        text = metadata.get(entry, "").lower()
        for family, beginnings in _NOTES.items():
            if text.startswith(beginnings):
                return family
    return None


def _by_place(
    shapes: Shapes, paths: Mapping[StemName, str], possible: Collection[str]
) -> str | None:
    if not paths:
        # CLIP alone: only SDXL has bigG, which is as wide as 1280.
        second = any(name.component == "text_encoder_2" for name in shapes)
        if second and "sdxl" in possible:
            return "sdxl"
        legacy = any(name.prefix == "lora_te_" for name in shapes)
        return "sd15" if legacy and "sd15" in possible else None
    if len(possible) == 1:
        return next(iter(possible))
    for name, path in paths.items():
        found = _CROSS_WIDTH.get(shapes[name][1]) if _CROSS.search(path) else None
        if found in possible:
            return found
    for family, place in (("sd15", _SD15), ("sdxl", _SDXL)):
        if family in possible and any(place.search(p) for p in paths.values()):
            return family
    return None


def _is_flux2(shapes: Shapes, paths: Mapping[StemName, str]) -> bool:
    for name, path in paths.items():
        outputs, inputs = shapes[name]
        for mark, ratio in _FLUX2_RATIO.items():
            blocks = path.startswith(("single_blocks_", "double_blocks_"))
            if blocks and re.search(mark, path) and outputs == ratio * inputs:
                return True
    return False


def _flux_relative(shapes: Shapes, paths: Mapping[StemName, str]) -> str | None:
    """A family whose attention has the names of FLUX.1's; empty for one without name.

    They differ in their widths and have more blocks than FLUX.1.
    """
    widths = {
        shapes[name][1] for name, path in paths.items() if _FLUX_ATTENTION.search(path)
    }
    if widths and widths <= _SD3_WIDTHS:
        return "SD 3"
    blocks = [_FLUX_BLOCK.match(path) for path in paths.values()]
    most = {"": -1, "single_": -1}
    for found in blocks:
        if found is not None:
            kind = found["single"] or ""
            most[kind] = max(most[kind], int(found["n"]))
    if most[""] < _FLUX_DOUBLE and most["single_"] < _FLUX_SINGLE:
        return None
    if most["single_"] >= 0:
        return "HunyuanVideo"
    return "Qwen-Image" if widths == {_QWEN_WIDTH} else ""

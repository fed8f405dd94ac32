"""The model family of a LoRA file, by the names and sizes of its layers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from .layer_names import MODEL, StemName, canonical

__all__ = ["family_of"]

_TRAINED = ("sdxl", "sd15", "flux")
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
_SD15 = re.compile(r"^down_blocks_(0_attentions|3_)|^up_blocks_3_")
_SDXL = re.compile(
    r"^(in|out)put_blocks_|^middle_block_|^(label_emb|add_embedding)|"
    r"^up_blocks_0_attentions|_transformer_blocks_[1-9]"
)
_CROSS = re.compile(r"attn2_to_[kv]$")
_CROSS_WIDTH = {768: "sd15", 2048: "sdxl"}
# FLUX.1 has 19 double blocks; Qwen-Image and SD 3 have more with the same names.
_FLUX_DOUBLE = 19
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
    if "flux" in possible and _more_than_flux(paths.values()):
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
    for family, place in (("sd15", _SD15), ("sdxl", _SDXL)):
        if family in possible and any(place.search(p) for p in paths.values()):
            return family
    for name, path in paths.items():
        found = _CROSS_WIDTH.get(shapes[name][1]) if _CROSS.search(path) else None
        if found in possible:
            return found
    return None


def _is_flux2(shapes: Shapes, paths: Mapping[StemName, str]) -> bool:
    for name, path in paths.items():
        outputs, inputs = shapes[name]
        for mark, ratio in _FLUX2_RATIO.items():
            blocks = path.startswith(("single_blocks_", "double_blocks_"))
            if blocks and re.search(mark, path) and outputs == ratio * inputs:
                return True
    return False


def _more_than_flux(paths: Collection[str]) -> bool:
    if any(path.startswith("single") for path in paths):
        return False
    found = (re.match(r"transformer_blocks_(\d+)_", path) for path in paths)
    return any(f is not None and int(f[1]) >= _FLUX_DOUBLE for f in found)

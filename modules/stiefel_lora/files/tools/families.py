"""The model family of a LoRA file, by the names and sizes of its layers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from ...families.catalogue import DEFAULT, family_names, record_of, records
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
    **{record.name: record.lora_files.notes for record in records()},
    "FLUX.2": ("flux2", "flux-2", "flux.2"),
    "Chroma": ("chroma",),
    "HunyuanVideo": ("hunyuan-video", "hunyuan_video", "hunyuanvideo"),
}
# The default family comes last: its pattern fits paths of others too.
_PLACES = {
    record.name: re.compile(record.lora_files.places)
    for record in sorted(records(), key=lambda record: record.name == DEFAULT)
    if record.lora_files.places is not None
}
_CROSS = re.compile(r"attn2_to_[kv]$")
_CROSS_WIDTH = {record.text_width: record.name for record in records()}
_BLOCK = re.compile(r"((?:single_)?transformer_blocks)_(\d+)_")
_ATTENTION = re.compile(r"^transformer_blocks_\d+_attn_(to|add)_[qkv](_proj)?$")
_SD3_WIDTHS = {1536, 2432}
_QWEN_WIDTH = 3072
# Prefix of kohya keys of a text encoder that has no number.
_UNNUMBERED = "lora_te_"
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
    for family in [f for f in possible if record_of(f).lora_files.blocks]:
        other = _relative(shapes, paths, record_of(family).lora_files.blocks)
        if other:
            return other
        if other is not None:
            possible.remove(family)
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
        return _by_encoder(shapes, possible)
    if len(possible) == 1:
        return next(iter(possible))
    for name, path in paths.items():
        found = _CROSS_WIDTH.get(shapes[name][1]) if _CROSS.search(path) else None
        if found in possible:
            return found
    for family, place in _PLACES.items():
        if family in possible and any(place.search(p) for p in paths.values()):
            return family
    return None


def _by_encoder(shapes: Shapes, possible: Collection[str]) -> str | None:
    """The family of text encoders alone: with two CLIPs, or one without a number."""
    if any(name.component == "text_encoder_2" for name in shapes):
        for family in possible:
            record = record_of(family)
            if "text_encoder_2" in record.text_readers and record.t5_tokens is None:
                return family
    if any(name.prefix == _UNNUMBERED for name in shapes):
        for family in possible:
            if _UNNUMBERED in record_of(family).lora_files.marks:
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


def _relative(
    shapes: Shapes, paths: Mapping[StemName, str], blocks: Mapping[str, int]
) -> str | None:
    """A family with the names of another that has fewer blocks; empty for an unknown.

    None for the family with these blocks itself.
    """
    widths = {
        shapes[name][1] for name, path in paths.items() if _ATTENTION.search(path)
    }
    if widths and widths <= _SD3_WIDTHS:
        return "SD 3"
    most: dict[str, int] = {}
    for found in map(_BLOCK.match, paths.values()):
        if found is not None:
            most[found[1]] = max(most.get(found[1], -1), int(found[2]))
    if all(most.get(kind, -1) < number for kind, number in blocks.items()):
        return None
    if "single_transformer_blocks" in most:
        return "HunyuanVideo"
    return "Qwen-Image" if widths == {_QWEN_WIDTH} else ""

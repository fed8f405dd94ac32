"""A layer's key in another spelling.

For SDXL, SD 1.5 and FLUX.1 the names come from tables. A layer of another family keeps
its path: dots can become underscores, but not the other way round.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ..._exceptions import ModelError
from .. import fused_flux
from ..keys_flux import FLUX as keys_flux
from ..keys_sd15 import SD15 as keys_sd15
from ..keys_sdxl import SDXL as keys_sdxl
from ..weights import LoraFactors, LoraWeights
from .layer_names import MODEL, StemName, canonical_key, parse_stem
from .lora_file import LoraFile, LoraLayer

__all__ = [
    "SPELLINGS",
    "TRAINED",
    "Spelling",
    "in_layout_of",
    "is_fused",
    "kohya_stem",
    "respelled",
]

_KEYS = {"sdxl": keys_sdxl, "sd15": keys_sd15, "flux": keys_flux}

TRAINED = tuple(_KEYS)
"""Families whose layers have names in tables."""


@dataclasses.dataclass(frozen=True)
class Spelling:
    """Suffixes of a way to write keys."""

    suffixes: Mapping[str, str]
    kohya: bool = False
    """Whether names are underscored and FLUX.1's layers fused as in the original."""


_UP_DOWN = {
    "down": ".lora_down.weight",
    "up": ".lora_up.weight",
    "alpha": ".alpha",
    "dora_scale": ".dora_scale",
}
_A_B = {
    "down": ".lora_A.weight",
    "up": ".lora_B.weight",
    "magnitude": ".lora_magnitude_vector",
}
_OLD = {"down": ".lora.down.weight", "up": ".lora.up.weight"}

SPELLINGS = {
    "kohya": Spelling(_UP_DOWN, kohya=True),
    "PEFT": Spelling(_A_B),
    "diffusers (old)": Spelling(_OLD),
    "OneTrainer": Spelling(_UP_DOWN),
}
"""Spellings that layers can be written in, by the names of ``LoraFile.spelling``."""


def is_fused(file: LoraFile) -> bool:
    """Whether the file has FLUX.1's layers as the original checkpoint fuses them."""
    names = keys_flux.kohya_names()
    return file.family == "flux" and any(
        layer.parsed.component == MODEL and layer.name in names for layer in file.layers
    )


def in_layout_of(file: LoraFile, fused: bool) -> LoraFile:
    """The same file with FLUX.1's q, k and v fused, or apart; exact in both ways.

    Raises:
        ModelError: a file that mixes both layouts.
    """
    if file.family != "flux" or is_fused(file) == fused:
        return file
    weights: LoraWeights = {layer.name: layer.factors for layer in file.layers}
    names = set(weights)
    if fused:
        changed = fused_flux.fuse(weights)
    elif names <= set(keys_flux.kohya_names()):
        changed = fused_flux.split(weights)
    else:
        raise ModelError(
            f"{file.path} holds fused and separate layers of FLUX.1. Write each to a "
            "file of its own."
        )
    example = next(layer for layer in file.layers if layer.parsed.component == MODEL)
    old = {layer.name: layer for layer in file.layers}
    layers = [
        old[name]
        if name in old and old[name].factors is factors
        else _new(example, name, factors)
        for name, factors in changed.items()
    ]
    return dataclasses.replace(file, layers=tuple(layers))


def respelled(layer: LoraLayer, spelling: str, family: str | None) -> LoraLayer:
    """The same layer under the key of another spelling.

    Args:
        layer: of a file of ``family``; FLUX.1's in the layout of the spelling.
        spelling: a key of ``SPELLINGS``.
        family: of the file.

    Raises:
        ModelError: the spelling has no name for the layer.
    """
    if spelling not in SPELLINGS:
        raise ModelError(
            f"{layer.name} cannot be written in the spelling {spelling}; known are "
            f"{', '.join(SPELLINGS)}."
        )
    style = SPELLINGS[spelling]
    stem = _stem(layer, style, family)
    if stem is None:
        raise ModelError(
            f"{layer.name} has no name in the spelling {spelling}: its own has "
            "underscores where that needs dots. Use kohya."
        )
    suffixes = {part: style.suffixes.get(part, s) for part, s in layer.suffixes.items()}
    found = {**style.suffixes, **suffixes} if "alpha" in style.suffixes else suffixes
    if "alpha" not in style.suffixes:
        found.pop("alpha", None)
    return dataclasses.replace(
        layer, stem=stem, parsed=parse_stem(stem), suffixes=found
    )


def kohya_stem(layer: LoraLayer, family: str) -> str | None:
    """Stem of kohya's key for a layer of a family with a table; None if it has none."""
    return _KEYS[family].kohya_names().get(layer.name)


def _stem(layer: LoraLayer, style: Spelling, family: str | None) -> str | None:
    keys = _KEYS.get(family or "")
    if keys is not None and canonical_key(layer.name) == layer.key:
        return keys.to_kohya(layer.name) if style.kohya else layer.name
    component, path = layer.parsed.component, layer.parsed.path
    if style.kohya:
        number = component.rpartition("_")[2]
        encoder = f"lora_te{number if number.isdigit() else 1}_"
        prefix = "lora_unet_" if component == MODEL else encoder
        return f"{prefix}{path.replace('.', '_')}"
    if "." not in path:
        return None
    return f"{'transformer' if component == MODEL else component}.{path}"


def _new(example: LoraLayer, name: str, factors: LoraFactors) -> LoraLayer:
    return dataclasses.replace(
        example,
        name=name,
        stem=name,
        parsed=StemName("", MODEL, name.partition(".")[2]),
        key=canonical_key(name),
        factors=factors,
        stored_rank=factors.rank,
        size=(factors.up.numel() + factors.down.numel()) * example.dtype.itemsize,
    )

"""Conversion of layer names to another key format.

For SDXL, SD 1.5 and FLUX.1, names are converted with tables. For other families, dots
can be replaced by underscores, but not vice versa.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping

from torch import Tensor

from ..._exceptions import ModelError
from ...families.catalogue import family_names, record_of, records
from ..kohya_names import fusing_of, key_table
from ..weights import LoraFactors, LoraWeights
from .key_lists import target_of
from .layer_names import (
    MODEL,
    StemName,
    canonical_key,
    is_encoder_without_name,
    parse_stem,
)
from .lora_file import LoraFile, LoraLayer

__all__ = [
    "SPELLINGS",
    "Spelling",
    "families_with",
    "in_layout_of",
    "is_fused",
    "kohya_names",
    "kohya_stem",
    "original_name",
    "respelled",
]


@dataclasses.dataclass(frozen=True)
class Spelling:
    """Key format: suffixes and names of layers."""

    suffixes: Mapping[str, str]
    fused: bool = False
    """Whether layers are fused as in the original checkpoint."""

    names: str = "diffusers"
    """Names of layers: ``diffusers`` for canonical names, ``kohya`` for the kohya
    tables, ``peft`` for the path in the model, ``underscored`` for canonical names with
    underscores, and ``original`` for the names of the original checkpoint. The last two
    have a prefix of ``prefixes``.
    """

    prefixes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Prefixes by component."""


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
# ComfyUI also reads kohya's dora_scale beside these.
_COMFYUI = {
    "down": ".lora_A.weight",
    "up": ".lora_B.weight",
    "dora_scale": ".dora_scale",
}
_OLD = {"down": ".lora.down.weight", "up": ".lora.up.weight"}
_UNET_NAMES = {
    "unet": "lora_unet_",
    "text_encoder": "lora_te1_",
    "text_encoder_2": "lora_te2_",
}
_LEGACY_NAMES = {
    "transformer": "lora_transformer_",
    "text_encoder": "lora_te1_",
    "text_encoder_2": "lora_te2_",
}

# Other models of pipelines in diffusers, such as transformer_2 of Wan 2.2.
_COMPONENT = re.compile(
    r"(transformer|unet)_\d+\.|(prior|decoder|controlnet|image_encoder|vae)(_\d+)?\."
)

SPELLINGS = {
    "kohya": Spelling(_UP_DOWN, fused=True, names="kohya"),
    "kohya (diffusers names)": Spelling(
        _UP_DOWN, names="underscored", prefixes=_UNET_NAMES
    ),
    "PEFT": Spelling(_A_B),
    "PEFT (own)": Spelling(_A_B, names="peft"),
    "diffusers (old)": Spelling(_OLD),
    "OneTrainer": Spelling(_UP_DOWN),
    "OneTrainer (legacy)": Spelling(
        _UP_DOWN, names="underscored", prefixes=_LEGACY_NAMES
    ),
    "ComfyUI": Spelling(
        _COMFYUI,
        fused=True,
        names="original",
        prefixes={"diffusion_model": "diffusion_model", "": "text_encoders."},
    ),
    "original names": Spelling(
        _COMFYUI,
        fused=True,
        names="original",
        prefixes={"diffusion_model": ""},
    ),
}
"""Key formats that can be written, by name (see ``LoraFile.spelling``)."""


def families_with(spelling: str) -> list[str]:
    """Return the families that a key format supports. Empty if it supports all."""
    return [r.name for r in records() if spelling in r.lora_files.spellings]


def is_fused(file: LoraFile) -> bool:
    """Return whether layers of a file are fused as in the original checkpoint."""
    if fusing_of(file.family) is None:
        return False
    names = kohya_names(str(file.family))
    return any(
        layer.parsed.component == MODEL and layer.name in names for layer in file.layers
    )


def in_layout_of(
    file: LoraFile,
    fused: bool,
    base_lengths: Callable[[str], Tensor] | None = None,
    *,
    keep_scales: bool = True,
) -> LoraFile:
    """Fuse or separate q, k and v of a file. Both conversions are exact.

    Files of families without fused layers are returned unchanged.

    Args:
        file: LoRA file.
        fused: whether to fuse the layers.
        base_lengths: function that returns the row norms of the base weight of a layer,
            (out,), by its name. It is required for fused layers of which only some
            parts are DoRA layers.
        keep_scales: whether to keep separated parts of a DoRA whose rows of B are zero.

    Raises:
        ModelError: If the file contains both fused and separate layers, or only some
            parts of a fused layer are DoRA layers and ``base_lengths`` is not given.
    """
    fusing = fusing_of(file.family)
    example = next((x for x in file.layers if x.parsed.component == MODEL), None)
    # A file with only text encoders has neither layout.
    if fusing is None or example is None or is_fused(file) == fused:
        return file
    weights: LoraWeights = {layer.name: layer.factors for layer in file.layers}
    names = set(weights)
    if fused:
        changed = fusing.fuse(weights, base_lengths)
    elif names <= set(kohya_names(str(file.family))):
        changed = fusing.split(weights, keep_scales=keep_scales)
    else:
        raise ModelError(
            f"{file.path} has both fused and separate layers of "
            f"{record_of(str(file.family)).label}. Save them to separate files."
        )
    old = {layer.name: layer for layer in file.layers}
    layers = [
        old[name]
        if name in old and old[name].factors is factors
        else _new(example, name, factors)
        for name, factors in changed.items()
    ]
    return dataclasses.replace(file, layers=tuple(layers))


def respelled(layer: LoraLayer, spelling: str, family: str | None) -> LoraLayer:
    """Convert the names of a layer to another key format.

    Args:
        layer: layer of ``family``. For FLUX.1, it must be fused or separate as required
            by the format.
        spelling: key of ``SPELLINGS``.
        family: family of the file.

    Raises:
        ModelError: If the key format has no name for the layer.
    """
    if spelling not in SPELLINGS:
        raise ModelError(
            f"{layer.name} is not supported by the key format {spelling}. Use one "
            f"of {', '.join(SPELLINGS)}."
        )
    style = SPELLINGS[spelling]
    families = families_with(spelling)
    if families and family not in families:
        raise ModelError(
            f"{layer.name}: the key format {spelling} supports {', '.join(families)}, "
            f"not {family or 'an unknown family'}. Use kohya or PEFT."
        )
    stem = _stem(layer, style, family)
    if stem is None:
        other = "PEFT" if style.names == "kohya" else "kohya"
        if is_encoder_without_name(layer.parsed):
            raise ModelError(
                f"{layer.name} is a layer of a text encoder, but its key does not "
                "contain the name of the encoder. Use the peft folder of the encoder, "
                "named text_encoder or text_encoder_2, or convert it to peft-folder."
            )
        raise ModelError(
            f"{layer.name} has no name in the key format {spelling}{_reason(layer)}. "
            f"Use {other}."
        )
    suffixes = {part: style.suffixes.get(part, s) for part, s in layer.suffixes.items()}
    found = {**style.suffixes, **suffixes} if "alpha" in style.suffixes else suffixes
    if "alpha" not in style.suffixes:
        found.pop("alpha", None)
    # The name of the denoiser is that of a folder in peft's own format.
    parsed = dataclasses.replace(parse_stem(stem), model=layer.parsed.model)
    return dataclasses.replace(layer, stem=stem, parsed=parsed, suffixes=found)


def _reason(layer: LoraLayer) -> str:
    if layer.parsed.component.startswith("text_encoders."):
        return ", because its text encoder has a name instead of a number"
    if "." in layer.name:
        return ""
    return ", because its own format has underscores instead of dots"


def kohya_names(family: str) -> Mapping[str, str]:
    """Return the kohya stems by canonical name for a family with a table."""
    return key_table(family).kohya_names()


def kohya_stem(layer: LoraLayer, family: str) -> str | None:
    """Return the kohya stem of a layer, or None if it has none."""
    return kohya_names(family).get(layer.name)


def _stem(layer: LoraLayer, style: Spelling, family: str | None) -> str | None:
    if family in family_names() and canonical_key(layer.name) == layer.key:
        return _stem_by_table(layer, style, str(family))
    component = layer.parsed.component
    path = layer.name.removeprefix("" if component == MODEL else f"{component}.")
    if style.names == "peft" and "." in path:
        return f"base_model.model.{path if component == MODEL else layer.name}"
    if is_encoder_without_name(layer.parsed):
        return None
    if style.names == "kohya":
        # Each family without a table has its own prefixes, such as lora_te_.
        if _is_kohya(layer):
            return layer.stem
        prefix = "lora_unet_" if component == MODEL else _kohya_encoder(layer)
        return None if prefix is None else f"{prefix}{path.replace('.', '_')}"
    if "." not in path:
        return None
    if component != MODEL:
        return f"{component}.{path}"
    if not layer.parsed.prefix and _COMPONENT.match(path):
        return path
    return f"{layer.parsed.model or 'transformer'}.{path}"


def _is_kohya(layer: LoraLayer) -> bool:
    prefix = layer.parsed.prefix
    own = not prefix or prefix.startswith(("lora_unet_", "lora_te"))
    return own and layer.stem.startswith("lora_") and "." not in layer.stem


def _kohya_encoder(layer: LoraLayer) -> str | None:
    """Return the prefix of a text encoder, which has a number in the kohya format.

    None for encoders with a name (``text_encoders.gemma2_2b``), which have no number.
    """
    component = layer.parsed.component
    if component == "text_encoder":
        return "lora_te1_"
    first, _, number = component.rpartition("_")
    return f"lora_te{number}_" if first == "text_encoder" else None


def _stem_by_table(layer: LoraLayer, style: Spelling, family: str) -> str | None:
    if style.names == "kohya":
        return key_table(family).to_kohya(layer.name)
    component, _, path = layer.name.partition(".")
    if style.names == "peft":
        own = component == record_of(family).denoiser
        return f"base_model.model.{path if own else layer.name}"
    if style.names == "underscored":
        prefix = style.prefixes.get(component)
        return None if prefix is None else f"{prefix}{path.replace('.', '_')}"
    if style.names == "original":
        original = original_name(layer, family)
        if original is None:
            return None
        first, _, rest = original.partition(".")
        if first in style.prefixes:
            return f"{style.prefixes[first]}.{rest}".lstrip(".")
        return None if "" not in style.prefixes else style.prefixes[""] + original
    return layer.name


def original_name(layer: LoraLayer, family: str) -> str | None:
    """Return the name of the weight of a layer in ComfyUI, or None if it has none.

    It is ``diffusion_model.<path in the original checkpoint>``, or
    ``clip_l.transformer.<path>`` for a text encoder.
    """
    stem = kohya_stem(layer, family)
    return None if stem is None else target_of("comfyui", family, stem)


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

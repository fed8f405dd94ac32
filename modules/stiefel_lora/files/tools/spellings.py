"""Names of the key formats of LoRA files."""

from __future__ import annotations

from collections.abc import Iterable

from ...families.catalogue import family_names, record_of
from .lora_file import LoraLayer
from .suffixes import is_of_peft

__all__ = ["spelling_of"]

_DIFFUSERS_NAMES = "kohya (diffusers names)"
_DIFFUSERS_BLOCKS = ("down_blocks_", "up_blocks_", "mid_block_")


def spelling_of(layers: Iterable[LoraLayer], family: str | None) -> str:
    """Return the name of the key format of a file, joined by ``+`` if mixed."""
    found = dict.fromkeys(_spelling(layer, family) for layer in layers)
    return " + ".join(found) or "none"


def _spelling(layer: LoraLayer, family: str | None) -> str:
    prefix, down = layer.parsed.prefix, layer.suffixes["down"]
    if ".processor." in layer.stem:
        xlabs = layer.parsed.path.startswith(("double_blocks.", "single_blocks."))
        return "XLabs" if xlabs else "diffusers (old)"
    if down.startswith((".lora.", ".lora_linear_layer", "_lora.")):
        return "diffusers (old)"
    if "." not in layer.stem and not (is_of_peft(down) and not prefix):
        if prefix == "lora_transformer_":
            return "OneTrainer (legacy)"
        if prefix == "lycoris_":
            return "LyCORIS"
        # sd-scripts names SDXL's blocks as in the checkpoint, SD 1.5's as in diffusers.
        if _has(family, _DIFFUSERS_NAMES) and layer.parsed.path.startswith(
            _DIFFUSERS_BLOCKS
        ):
            return _DIFFUSERS_NAMES
        return "kohya"
    if prefix.startswith("base_model.model."):
        return "PEFT (own)"
    if prefix.startswith(("diffusion_model.", "model.", "text_encoders.")):
        return "ComfyUI"
    if down.startswith(".lora_down"):
        return "OneTrainer"
    return "PEFT" if prefix else "original names"


def _has(family: str | None, spelling: str) -> bool:
    """Return whether a key format exists for a family."""
    known = family in family_names()
    return known and spelling in record_of(str(family)).lora_files.spellings

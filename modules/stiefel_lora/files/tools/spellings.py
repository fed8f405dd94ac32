"""Names of the spellings of LoRA files, as users and tools call them."""

from __future__ import annotations

from collections.abc import Iterable

from .lora_file import LoraLayer

__all__ = ["spelling_of"]


_DIFFUSERS_BLOCKS = ("down_blocks_", "up_blocks_", "mid_block_")


def spelling_of(layers: Iterable[LoraLayer], family: str | None) -> str:
    """Name the spelling of a file; several joined by ``+`` where it mixes them."""
    found = dict.fromkeys(_spelling(layer, family) for layer in layers)
    return " + ".join(found) or "none"


def _spelling(layer: LoraLayer, family: str | None) -> str:
    prefix, down = layer.parsed.prefix, layer.suffixes["down"]
    if ".processor." in layer.stem:
        xlabs = layer.parsed.path.startswith(("double_blocks.", "single_blocks."))
        return "XLabs" if xlabs else "diffusers (old)"
    if down.startswith((".lora.", ".lora_linear_layer", "_lora.")):
        return "diffusers (old)"
    if "." not in layer.stem:
        if prefix == "lora_transformer_":
            return "OneTrainer (legacy)"
        if prefix == "lycoris_":
            return "LyCORIS"
        # sd-scripts names SDXL's blocks as the checkpoint does, SD 1.5's as diffusers.
        if family == "sdxl" and layer.parsed.path.startswith(_DIFFUSERS_BLOCKS):
            return "kohya (diffusers names)"
        return "kohya"
    if prefix.startswith("base_model.model."):
        return "PEFT (own)"
    if prefix.startswith(("diffusion_model.", "model.", "text_encoders.")):
        return "ComfyUI"
    if down.startswith(".lora_down"):
        return "OneTrainer"
    return "PEFT" if prefix else "original names"

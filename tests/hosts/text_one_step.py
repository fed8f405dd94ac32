"""LoRA files of SDXL with text encoders, for one step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from own_one_step import RANK
from torch import Tensor, nn

from helpers.families import open_sdxl
from stiefel_lora.adapters.text_targets import select_text_layers
from stiefel_lora.files.kohya import save_kohya
from stiefel_lora.files.weights import LoraFactors, canonical_name

__all__ = [
    "ENCODERS",
    "EPS",
    "PROJECTION",
    "named_as_files",
    "trained_part",
    "write_text_loras",
]

EPS = 1e-5
"""Epsilon of AdamW, so large that rounding of gradients near 0 does not matter."""

PROJECTION = "text_encoder_2.text_projection"

ENCODERS = ("text_encoder", "text_encoder_2")


def _trained_here(model: Path, part: str) -> set[str]:
    """Names in files of the layers of a text encoder that are trained here."""
    encoder = open_sdxl(model).text_skeleton(part)
    names = select_text_layers(encoder, family="sdxl", part=part)
    return {canonical_name(part, name) for name in names}


def write_text_loras(
    folder: Path, model: Path, name: str, parts: Sequence[str], alpha: float
) -> Path:
    """Write a random LoRA of the attention of the UNet and of text encoders.

    B of layers that are not trained here is 0, as at their start in other programs.

    Args:
        folder: where to write.
        model: folder of the base model.
        name: name of the file.
        parts: text encoders.
        alpha: alpha of all layers.
    """
    generator = torch.Generator().manual_seed(3)
    family = open_sdxl(model)
    weights = {}
    for layer_name, layer in family.skeleton().named_modules():
        if "attentions" in layer_name and isinstance(layer, nn.Linear):
            weights[f"unet.{layer_name}"] = _factors(layer, alpha, generator)
    for part in parts:
        known = _trained_here(model, part)
        for layer_name, layer in family.text_skeleton(part).named_modules():
            if isinstance(layer, nn.Linear):
                key = canonical_name(part, layer_name)
                weights[key] = _factors(layer, alpha, generator)
                if key not in known:
                    weights[key].up.zero_()
    path = folder / f"{name}.safetensors"
    save_kohya(path, weights)
    return path


def _factors(layer: nn.Linear, alpha: float, generator: torch.Generator) -> LoraFactors:
    up = torch.randn(layer.out_features, RANK, generator=generator)
    down = torch.randn(RANK, layer.in_features, generator=generator)
    return LoraFactors(0.05 * up, 0.1 * down, alpha)


def named_as_files(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name the layers of text encoders as in files, whatever transformers' version."""
    found = {}
    for name, value in tensors.items():
        kind, space, key = name.partition(" ")
        part, _, path = key.partition(".")
        if part in ENCODERS:
            key = canonical_name(part, path)
        found[f"{kind}{space}{key}"] = value
    return found


def trained_part(
    expected: dict[str, Tensor], model: Path, parts: Sequence[str]
) -> dict[str, Tensor]:
    """Return the step without the layers that are not trained here.

    They have no gradient in the other program either, except for the projection.
    """
    known = {name for part in parts for name in _trained_here(model, part)}
    found = {}
    for name, value in expected.items():
        layer = name.partition(" ")[2].partition(".lora_")[0]
        if not layer.startswith("text_encoder") or layer in known:
            found[name] = value
        elif name.startswith("grad ") and layer != PROJECTION:
            assert not value.any(), name
    return found

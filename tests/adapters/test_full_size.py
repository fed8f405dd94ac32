"""Full-size models on the meta device: LoRA in, pairs found, files written and read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from helpers.full_size import clip_l, flux_transformer, t5_xxl
from make_comfyui_names import sdxl_text_encoders, sdxl_unet
from stiefel_lora.adapters import add_lora, pairs_of, select_layers
from stiefel_lora.files import (
    LoraFactors,
    LoraWeights,
    canonical_name,
    load_lora,
    save_kohya,
    save_peft,
)
from stiefel_lora.files.tensors import read_tensors
from stiefel_lora.methods import method

RANK = 2


def adapted(model: nn.Module, component: str, family: str, preset: str) -> LoraWeights:
    """Ones under the names of all pairs, as the run would write them."""
    targets = select_layers(model, family=family, preset=preset, rank=RANK)
    start = method("stiefel_lora")
    add_lora(model, rank=RANK, alpha=RANK, targets=targets, method=start, seed=0)
    pairs = pairs_of(model)
    assert [pair.name for pair in pairs] == targets
    assert all(pair.up.is_meta and pair.down.is_meta for pair in pairs)
    return {
        canonical_name(component, pair.name): LoraFactors(
            torch.ones(pair.up.shape), torch.ones(pair.down.shape), float(RANK)
        )
        for pair in pairs
    }


def files_of(weights: LoraWeights, family: str, folder: Path) -> tuple[int, int]:
    """Write both files, read them back, and count the layers that each names."""
    kohya, peft = folder / "kohya.safetensors", folder / "peft.safetensors"
    save_kohya(kohya, weights, family=family, dtype=torch.float16)
    save_peft(peft, weights, dtype=torch.float16)
    for path in (kohya, peft):
        assert load_lora(path).keys() == weights.keys()
    kohya_keys, peft_keys = read_tensors(kohya)[0], read_tensors(peft)[0]
    return len(kohya_keys) // 3, len(peft_keys) // 2


def test_sdxl_722_of_722(tmp_path: Path) -> None:
    weights = adapted(sdxl_unet(), "unet", "sdxl", "attn-mlp")
    assert files_of(weights, "sdxl", tmp_path) == (722, 722)


@pytest.mark.parametrize(
    ("preset", "layers", "fused"),
    [
        ("attn-only", 266, 4 * 19 + 38),
        ("attn-mlp", 342, 6 * 19 + 38),
        ("full", 504, 10 * 19 + 3 * 38 + 10),
    ],
)
def test_flux_504_of_504(tmp_path: Path, preset: str, layers: int, fused: int) -> None:
    weights = adapted(flux_transformer(), "transformer", "flux", preset)
    assert files_of(weights, "flux", tmp_path) == (fused, layers)


@pytest.mark.parametrize(
    ("kind", "component", "family", "layers"),
    [
        ("clip_l", "text_encoder", "sdxl", 72),
        ("big_g", "text_encoder_2", "sdxl", 193),
        ("t5_xxl", "text_encoder_2", "flux", 168),
    ],
)
def test_text_encoders(
    tmp_path: Path, kind: str, component: str, family: str, layers: int
) -> None:
    make = {
        "clip_l": clip_l,
        "big_g": lambda: sdxl_text_encoders()[1],
        "t5_xxl": t5_xxl,
    }
    weights = adapted(make[kind](), component, family, "full")
    assert files_of(weights, family, tmp_path) == (layers, layers)
    levels = {name.split(".")[1] for name in weights}
    assert levels <= {"text_model", "text_projection", "encoder"}

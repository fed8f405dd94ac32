"""Random LoRA files of every spelling, and their dense updates."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch

from stiefel_lora.files import LoraFactors, LoraFile, LoraLayer, open_lora

__all__ = ["SPELLINGS", "dense", "dense_of", "make", "stack", "write"]

# Spelling -> stems of three layers of SDXL and the suffixes of A, B and alpha.
_SGM = "input_blocks_4_1_{}"
_PATH = "down_blocks.1.attentions.0.{}"
_LEAVES = (
    "proj_in",
    "transformer_blocks.0.attn1.to_q",
    "transformer_blocks.1.ff.net.2",
)
_KOHYA = (".lora_down.weight", ".lora_up.weight", ".alpha")
_PEFT = (".lora_A.weight", ".lora_B.weight", None)
SPELLINGS: dict[str, tuple[list[str], tuple[str, str, str | None]]] = {
    "kohya": (
        [f"lora_unet_{_SGM.format(x.replace('.', '_'))}" for x in _LEAVES],
        _KOHYA,
    ),
    "kohya (diffusers names)": (
        [f"lora_unet_{_PATH.format(x).replace('.', '_')}" for x in _LEAVES],
        _KOHYA,
    ),
    "PEFT": ([f"unet.{_PATH.format(x)}" for x in _LEAVES], _PEFT),
    "PEFT (own)": (
        [f"base_model.model.unet.{_PATH.format(x)}" for x in _LEAVES],
        (".lora_A.default.weight", ".lora_B.default.weight", None),
    ),
    "diffusers (old)": (
        [f"unet.{_PATH.format(x)}" for x in _LEAVES],
        (".lora.down.weight", ".lora.up.weight", None),
    ),
    "OneTrainer": (
        [f"unet.{_PATH.format(x)}" for x in _LEAVES],
        _KOHYA,
    ),
    "ComfyUI": (
        [f"diffusion_model.input_blocks.4.1.{x}" for x in _LEAVES],
        (".lora_A.weight", ".lora_B.weight", ".alpha"),
    ),
}
_SIZES = ((7, 6), (5, 5), (6, 9))


def make(
    spelling: str = "kohya",
    *,
    seed: int = 0,
    ranks: tuple[int, ...] = (4, 3, 2),
    alphas: tuple[float, ...] = (2.0, 3.0, 1.0),
    dtype: torch.dtype = torch.float32,
) -> dict[str, torch.Tensor]:
    """Tensors of a random file of three layers."""
    stems, (down, up, alpha) = SPELLINGS[spelling]
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for stem, (out, into), rank, own in zip(stems, _SIZES, ranks, alphas, strict=True):
        found[stem + up] = torch.randn(out, rank, generator=generator).to(dtype)
        found[stem + down] = torch.randn(rank, into, generator=generator).to(dtype)
        if alpha is not None:
            found[stem + alpha] = torch.tensor(own)
    return found


def write(path: Path, tensors: dict, **metadata: str) -> LoraFile:
    """Write tensors and open them."""
    safetensors.torch.save_file(tensors, path, metadata or None)
    return open_lora(path)


def dense_of(factors: LoraFactors) -> torch.Tensor:
    """Update of a layer as a matrix, float64."""
    up, down = factors.up.double().flatten(1), factors.down.double().flatten(1)
    return factors.scale * up @ down


def dense(file: LoraFile) -> dict[str, torch.Tensor]:
    """Key of a layer -> its update as a matrix, float64."""
    return {layer.key: dense_of(layer.factors) for layer in file.layers}


def stack(updates: dict[str, torch.Tensor]) -> torch.Tensor:
    """All entries of all updates in one row."""
    return torch.cat([updates[key].flatten() for key in sorted(updates)])


def layer_by_end(file: LoraFile, end: str) -> LoraLayer:
    """The one layer whose name ends so."""
    (found,) = [layer for layer in file.layers if layer.name.endswith(end)]
    return found

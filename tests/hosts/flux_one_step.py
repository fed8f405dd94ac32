"""Inputs of one step of a tiny FLUX.1, and its layers as other programs fuse them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from own_one_step import RANK
from safetensors.torch import save_file
from torch import Tensor, nn

from helpers.families import open_flux
from stiefel_lora.adapters.text_targets import select_text_layers
from stiefel_lora.files.fused_flux import diffusers_paths
from stiefel_lora.files.kohya_names import key_table
from stiefel_lora.files.weights import canonical_name

__all__ = [
    "comparable",
    "fused_names",
    "fused_step",
    "make_flux_batch",
    "write_flux_loras",
]

PREFIX = "transformer."
LENGTHS = (16, 5, 9)
"""Tokens of the captions, without padding."""


def make_flux_batch(model: Path, levels: tuple[float, ...] = ()) -> dict[str, Tensor]:
    """Random latents and embeddings for the model in a folder.

    Args:
        model: folder of the base model.
        levels: timesteps of the images. Without them, they are drawn.
    """
    config = open_flux(model).skeleton().config  # type: ignore[attr-defined]
    count = len(LENGTHS)
    torch.manual_seed(7)
    batch = {
        "latents": torch.randn(count, config.in_channels // 4, 8, 8),
        "embeds": torch.randn(count, 16, config.joint_attention_dim),
        "pooled": torch.randn(count, config.pooled_projection_dim),
        "text_mask": (torch.arange(16) < torch.tensor(LENGTHS)[:, None]).float(),
        "loss_weight": torch.tensor([1.0, 0.5, 2.0]),
        "mask": torch.rand(count, 1, 8, 8),
    }
    if levels:
        batch["timesteps"] = torch.tensor(levels)
    return batch


def write_flux_loras(folder: Path, model: Path, alphas: tuple[float, ...]) -> None:
    """Write random LoRAs of all linear layers of the blocks and of CLIP.

    ``split-A.safetensors`` has the layers of diffusers in OneTrainer's names.
    ``fused-A.safetensors`` has those of the original model in kohya's names, and
    ``clip-A.safetensors`` those of CLIP too.

    Args:
        folder: where to write.
        model: folder of the base model.
        alphas: alphas of the files, with the same factors.
    """
    family = open_flux(model)
    generator = torch.Generator().manual_seed(3)
    layers = _linear(family.skeleton(), lambda name: "blocks" in name)
    apart = {
        f"lora_transformer_{name.replace('.', '_')}": _random(*shape, generator)
        for name, shape in layers.items()
    }
    wholes: dict[str, tuple[int, int]] = {}
    for name, whole in diffusers_paths().items():
        if name in layers:
            rows = wholes.get(whole, (0, 0))[0] + layers[name][0]
            wholes[whole] = rows, layers[name][1]
    table = key_table("flux")
    fused = {
        table.to_kohya(PREFIX + name): _random(*shape, generator)
        for name, shape in wholes.items()
    }
    clip = family.text_skeleton("text_encoder")
    known = select_text_layers(clip, family="flux", part="text_encoder")
    text = {
        table.to_kohya(canonical_name("text_encoder", name)): _random(*shape, generator)
        for name, shape in _linear(clip, known.__contains__).items()
    }
    for alpha in alphas:
        for name, found in (
            ("split", apart),
            ("fused", fused),
            ("clip", fused | text),
        ):
            _save(folder / f"{name}-{alpha:g}.safetensors", found, alpha)


def _linear(
    model: nn.Module, takes: Callable[[str], bool]
) -> dict[str, tuple[int, int]]:
    return {
        name: (layer.out_features, layer.in_features)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and takes(name)
    }


def _random(
    rows: int, columns: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    up = torch.randn(rows, RANK, generator=generator)
    down = torch.randn(RANK, columns, generator=generator)
    return 0.05 * up, 0.1 * down


def _save(path: Path, found: Mapping[str, tuple[Tensor, Tensor]], alpha: float) -> None:
    tensors = {}
    for stem, (up, down) in found.items():
        tensors[f"{stem}.lora_up.weight"] = up
        tensors[f"{stem}.lora_down.weight"] = down
        tensors[f"{stem}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path)


def fused_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name the layers of the blocks as in the original model, also fused ones."""
    found = {}
    for name, value in tensors.items():
        kind, mark, key = name.partition(f" {PREFIX}")
        path, dot, factor = key.partition(".lora_")
        found[f"{kind}{mark}{_original(path)}{dot}{factor}"] = value
    return found


def _original(path: str) -> str:
    paths = diffusers_paths()
    # OneTrainer's names of fused layers, which are those of diffusers otherwise.
    head, _, leaf = path.rpartition(".")
    first = {"qkv": "to_q", "added_qkv": "add_q_proj", "qkv_mlp": "attn.to_q"}
    if leaf in first and f"{head}.{first[leaf]}" in paths:
        path = f"{head}.{first[leaf]}"
    return paths.get(path, path)


def fused_step(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the step with the gradients of fused layers.

    Its parts have the same A here, and the gradient of the shared A is their sum. The
    new factors of fused layers are left out, because AdamW is not linear.
    """
    groups: dict[str, list[tuple[str, Tensor]]] = {}
    for name, value in tensors.items():
        (whole,) = fused_names({name: value})
        groups.setdefault(whole, []).append((name, value))
    order = {PREFIX + path: place for place, path in enumerate(diffusers_paths())}
    found = {}
    for whole, parts in groups.items():
        kind, _, _ = whole.partition(" ")
        parts.sort(key=lambda part: order.get(_layer(part[0]), 0))
        values = [value for _, value in parts]
        if len(values) == 1:
            found[whole] = values[0]
        elif whole.endswith("lora_up.weight") and kind != "after":
            found[whole] = torch.cat(values)
        elif kind == "before":
            assert all(torch.equal(value, values[0]) for value in values)
            found[whole] = values[0]
        elif kind == "grad":
            found[whole] = torch.stack(values).sum(0)
    return found


def comparable(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the expected step without the new factors that are not compared."""
    return {
        name: value
        for name, value in fused_names(expected).items()
        if name in found or not name.startswith("after ")
    }


def _layer(name: str) -> str:
    return name.partition(" ")[2].partition(".lora_")[0]

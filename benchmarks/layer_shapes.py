"""Layers of the real models that get a LoRA: attention, then feed-forward."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from stiefel_lora.optim.pairs import Pair

__all__ = ["SHAPES", "make_pairs"]

# (out, in) -> number of layers.
SHAPES = {
    "sdxl": {
        (1280, 1280): 360,
        (1280, 2048): 120,
        (640, 640): 60,
        (640, 2048): 20,
        (10240, 1280): 60,
        (1280, 5120): 60,
        (5120, 640): 10,
        (640, 2560): 10,
    },
    "flux": {
        (3072, 3072): 266,
        (12288, 3072): 76,
        (3072, 12288): 38,
        (3072, 15360): 38,
    },
}


def make_pairs(
    model: str, rank: int, device: torch.device, *, every: int = 1, seed: int = 0
) -> list[Pair]:
    """Random factors of a model's shapes, B orthonormal as after Stiefel training.

    Args:
        model: ``sdxl`` (700 pairs) or ``flux`` (418).
        rank: r.
        device: where they live.
        every: take one layer in so many of each shape, at least one.
        seed: of the factors.
    """
    generator = torch.Generator(device).manual_seed(seed)
    options = {"generator": generator, "device": device}
    pairs = []
    for outputs, inputs in _layers(model, every):
        up = torch.linalg.qr(torch.randn(outputs, rank, **options)).Q.contiguous()
        down = torch.randn(rank, inputs, **options) / inputs**0.5
        name = f"down_blocks.1.attentions.0.layer_{len(pairs)}"
        pairs.append(Pair(name, up.requires_grad_(), down.requires_grad_()))
    return pairs


def _layers(model: str, every: int) -> Iterator[tuple[int, int]]:
    for shape, count in SHAPES[model].items():
        for _ in range(max(1, count // every)):
            yield shape

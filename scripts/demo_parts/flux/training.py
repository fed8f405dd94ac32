"""Training of the transformer: flow matching and guidance distillation.

The sampler's steps from noise to image follow the velocity noise - image, as in
rectified flow. For most of the run the guidance scale is 1 and the target is that
velocity. In the last part half of every batch gets a scale g of 1 to 4, and the target
is what classifier-free guidance makes of the network's own predictions,

    v(none) + g (v(caption) - v(none)),

as FLUX.1-dev was distilled: one call a step draws what guidance takes two for, and a
scale of 1 is the plain model that a LoRA is trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from demo_parts.captions import draw_variants
from demo_parts.flux.base_model import FluxBase, predict
from demo_parts.flux.text import SHORT, longer
from demo_parts.loop import Run, make_optimizers
from demo_parts.recipe import Recipe

EMPTY = 2
# Logit-normal; the mean is about the shift of FLUX's sampler at 64 tokens, and more
# spread than 1 teaches what to draw where there is almost only noise.
LOGIT_MEAN, LOGIT_STD = 0.5, 1.2
GUIDED_FROM, STRONGEST = 0.7, 4.0
# FluxPipeline pads to 512 by default, and nothing masks the padding.
LENGTHS, LENGTH_SHARES = (SHORT, 64, 128, 512), (0.95, 0.025, 0.02, 0.005)
DECAY = 0.999


@dataclass(frozen=True)
class FluxData:
    """Training data of the base model.

    Attributes:
        latents: packed, shifted and scaled latents (image, 64, 16), fp32.
        tokens: T5 ids (image, 3, SHORT): image, caption variant.
        words: their states (image, 3, SHORT, 128).
        pooled: pooled captions (image, 3, 128).
    """

    latents: Tensor
    tokens: Tensor
    words: Tensor
    pooled: Tensor


@dataclass(frozen=True)
class Batch:
    """A share of a step's batch; rows as in `FluxData`, `empty` without caption."""

    noisy: Tensor
    velocity: Tensor
    sigmas: Tensor
    words: Tensor
    pooled: Tensor
    empty: tuple[Tensor, Tensor]
    guidance: Tensor


def encode(model: FluxBase, latents: Tensor, first: Tensor, second: Tensor) -> FluxData:
    """Encode CLIP's and T5's ids (image, 3, length) once."""
    words = [model.states(second[:, variant]) for variant in range(3)]
    pooled = [model.pooled(first[:, variant]) for variant in range(3)]
    return FluxData(latents, second, torch.stack(words, 1), torch.stack(pooled, 1))


def draw_batch(
    model: FluxBase, data: FluxData, recipe: Recipe, step: int, share: slice
) -> Batch:
    """The batch of a step, or a worker's share of it."""
    rng = recipe.random(step)
    chosen = torch.from_numpy(recipe.chosen(step, len(data.latents)))
    variants = draw_variants(rng, recipe.batch)
    length = int(rng.choice(LENGTHS, p=LENGTH_SHARES))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    clean = data.latents[chosen]
    noise = torch.randn(clean.shape, generator=generator)
    logits = torch.randn(len(chosen), generator=generator)
    sigmas = torch.sigmoid(LOGIT_MEAN + LOGIT_STD * logits)
    scales = 1 + (STRONGEST - 1) * torch.rand(len(chosen), generator=generator)
    mixed = clean + sigmas[:, None, None] * (noise - clean)
    picked, kinds = chosen[share], variants[share]
    none = torch.full_like(kinds, EMPTY)
    return Batch(
        mixed[share],
        (noise - clean)[share],
        sigmas[share],
        _words(model, data, picked, kinds, length),
        data.pooled[picked, kinds],
        (_words(model, data, picked, none, length), data.pooled[picked, none]),
        scales[share],
    )


def _words(
    model: FluxBase, data: FluxData, chosen: Tensor, variants: Tensor, length: int
) -> Tensor:
    if length == SHORT:
        return data.words[chosen, variants]
    return model.states(longer(data.tokens[chosen, variants], length))


def make_loss(
    model: FluxBase, data: FluxData, recipe: Recipe, *, compiled: bool
) -> Callable[[int, slice], Tensor]:
    """The loss of a step on a share of its batch.

    Compiled code is made for batches with short captions; the others are rare.
    """
    plain: Any = model.transformer
    quick = torch.compile(plain, dynamic=False) if compiled else plain

    def loss_of(step: int, share: slice) -> Tensor:
        batch = draw_batch(model, data, recipe, step, share)
        transformer = quick if batch.words.shape[1] == SHORT else plain
        guided = len(batch.noisy) // 2 if step >= GUIDED_FROM * recipe.steps else 0
        guidance = batch.guidance.clone()
        guidance[guided:] = 1
        target = batch.velocity.clone()
        if guided:
            target[:guided] = guided_velocity(transformer, batch, guided)
        found = predict(
            transformer, batch.noisy, batch.sigmas, batch.words, batch.pooled, guidance
        )
        return (found - target).square().mean()

    return loss_of


@torch.no_grad()
def guided_velocity(transformer: Any, batch: Batch, count: int) -> Tensor:
    """Classifier-free guidance on the first `count` rows, (count, 64, 16)."""
    both = torch.cat([batch.words[:count], batch.empty[0][:count]])
    pooled = torch.cat([batch.pooled[:count], batch.empty[1][:count]])
    noisy, sigmas = batch.noisy[:count].repeat(2, 1, 1), batch.sigmas[:count].repeat(2)
    found = predict(transformer, noisy, sigmas, both, pooled, torch.ones(2 * count))
    captioned, empty = found.chunk(2)
    return empty + batch.guidance[:count, None, None] * (captioned - empty)


def start_run(transformer: nn.Module, lr: float) -> Run:
    """Muon for the matrices of attention and feed-forward, AdamW for the rest."""
    matrices, others = [], []
    for name, weight in transformer.named_parameters():
        inside = "blocks." in name and "norm" not in name and weight.dim() == 2
        (matrices if inside else others).append(weight)
    optimizers = make_optimizers(matrices, others, lr, torch.float32)
    return Run(transformer, optimizers, DECAY)

"""Training of the UNet: cached latents and captions, MSE of the velocity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from demo_parts.base_model import STEPS, BaseModel, signal_and_noise
from demo_parts.captions import draw_variants
from demo_parts.loop import Run, make_optimizers
from demo_parts.recipe import Recipe


@dataclass(frozen=True)
class BaseData:
    """Training data of the base model.

    Attributes:
        latents: scaled latents (image, 4, 16, 16), fp32.
        states: encoded captions (image, 3, length, 224): image, caption variant.
        pooled: pooled captions (image, 3, 128).
    """

    latents: Tensor
    states: Tensor
    pooled: Tensor


def encode_captions(model: BaseModel, latents: Tensor, tokens: Tensor) -> BaseData:
    """Encode token ids (2, image, 3, length) once: the encoders stay as they are."""
    encoded = [model.encode(tokens[:, :, variant]) for variant in range(3)]
    states, pooled = zip(*encoded, strict=True)
    return BaseData(latents, torch.stack(states, 1), torch.stack(pooled, 1))


def draw_batch(
    data: BaseData, recipe: Recipe, step: int, share: slice
) -> tuple[Tensor, ...]:
    """The batch of a step, or a worker's share of it.

    Returns:
        noisy latents, velocity (both (batch, 4, 16, 16)), timesteps (batch,), hidden
        states (batch, length, 224) and pooled captions (batch, 128).
    """
    rng = recipe.random(step)
    chosen = torch.from_numpy(recipe.chosen(step, len(data.latents)))
    variants = draw_variants(rng, recipe.batch)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    clean = data.latents[chosen]
    noise = torch.randn(clean.shape, generator=generator)
    timesteps = torch.randint(STEPS, (recipe.batch,), generator=generator)
    signal, sigma = signal_and_noise(timesteps)
    noisy = signal * clean + sigma * noise
    states, pooled = data.states[chosen, variants], data.pooled[chosen, variants]
    velocity = signal * noise - sigma * clean
    batch = (noisy, velocity, timesteps, states, pooled)
    return tuple(part[share] for part in batch)


def loss_of_step(
    model: BaseModel, data: BaseData, recipe: Recipe, step: int, share: slice
) -> Tensor:
    """Mean squared error of the velocity on a share of a step's batch."""
    batch = draw_batch(data, recipe, step, share)
    noisy, velocity, timesteps, states, pooled = batch
    # Plain products: torch's fused attention on CPUs has a slow backward pass for heads
    # this narrow.
    with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
        predicted = model(noisy, timesteps, states, pooled)
    return (predicted.float() - velocity).square().mean()


def start_run(unet: nn.Module, lr: float) -> Run:
    """Muon for matrices and convolutions, AdamW for the rest."""
    weights = list(unet.parameters())
    vectors = [weight for weight in weights if weight.dim() < 2]
    matrices = [weight for weight in weights if weight.dim() > 1]
    return Run(unet, make_optimizers(matrices, vectors, lr))

"""Train the UNet on cached latents and captions: MSE of velocity, Muon.

Batches, noise and caption drop-out of a step depend on the seed and the step alone, so
a resumed run equals an uninterrupted one.

Under torchrun each process takes its share of every batch and steps by itself; weights
and moments are averaged now and then (local SGD, arXiv:1805.09767), so that a core that
stalls holds up the other once in ten steps and not in every layer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from demo_parts.base_model import STEPS, BaseModel, signal_and_noise
from demo_parts.captions import draw_variants
from demo_parts.muon import Muon
from demo_parts.recipe import Recipe
from demo_parts.workers import Workers

WARM_UP = 100
REPORT_EVERY = 20
CLIP_NORM = 1.0
AVERAGE_EVERY = 10


@dataclass(frozen=True)
class BaseData:
    """What the base model is trained on.

    Attributes:
        latents: scaled latents (picture, 4, 16, 16), fp32.
        states: encoded captions (picture, 3, length, 224): picture, caption variant.
        pooled: pooled captions (picture, 3, 128).
    """

    latents: Tensor
    states: Tensor
    pooled: Tensor


def encode_captions(model: BaseModel, latents: Tensor, tokens: Tensor) -> BaseData:
    """Encode token ids (2, picture, 3, length) once: the encoders stay as they are."""
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


def train(
    model: BaseModel,
    data: BaseData,
    recipe: Recipe,
    checkpoint: Path,
    publish: Callable[[int], None],
) -> float | None:
    """Run or resume the training of the model's UNet.

    Args:
        model: where the weights live.
        data: latents and captions.
        recipe: settings.
        checkpoint: file that is written every `recipe.every` steps.
        publish: called with the number of steps after each checkpoint.

    Returns:
        Mean loss of the last 100 steps; None in a process beside the first.

    Raises:
        ValueError: if the loss is not finite.
    """
    weights = list(model.unet.parameters())
    optimizers = make_optimizers(weights, recipe.lr)
    first, losses = _load(checkpoint, model, optimizers)
    workers = Workers.join()
    started = time.monotonic()
    for step in range(first, recipe.steps):
        rate = recipe.rate(step, WARM_UP)
        batch = draw_batch(data, recipe, step, workers.share)
        losses.append(_step(model, optimizers, rate, batch))
        done = step + 1
        if done % AVERAGE_EVERY == 0 or done == recipe.steps:
            workers.average([*weights, *_moments(optimizers)])
        if not workers.is_first:
            continue
        if not np.isfinite(losses[-1]):
            raise ValueError(f"The loss at step {done} is {losses[-1]}: lower --lr.")
        if done % REPORT_EVERY == 0:
            seconds = (time.monotonic() - started) / (done - first)
            recent = float(np.mean(losses[-100:]))
            print(
                f"unet {done}/{recipe.steps} loss {recent:.4f} {seconds:.3f} s/step",
                time.strftime("%H:%M:%S"),
                flush=True,
            )
        if done % recipe.every == 0 or done == recipe.steps:
            _save(checkpoint, model, optimizers, done, losses)
            publish(done)
    if not workers.is_first:
        return None
    return float(np.mean(losses[-100:]))


def make_optimizers(
    weights: Sequence[Tensor], lr: float
) -> list[torch.optim.Optimizer]:
    """Muon for matrices and convolutions, AdamW for the rest."""
    vectors = [weight for weight in weights if weight.dim() < 2]
    matrices = [weight for weight in weights if weight.dim() > 1]
    return [
        Muon(matrices, lr, weight_decay=0.01),
        torch.optim.AdamW(
            vectors, lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        ),
    ]


def _moments(optimizers: list[torch.optim.Optimizer]) -> list[Tensor]:
    return [
        value
        for optimizer in optimizers
        for state in optimizer.state.values()
        for name, value in state.items()
        if name != "step"
    ]


def _step(
    model: BaseModel,
    optimizers: list[torch.optim.Optimizer],
    rate: float,
    batch: tuple[Tensor, ...],
) -> float:
    noisy, velocity, timesteps, states, pooled = batch
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
    # Plain products: torch's fused attention on CPUs has a slow backward pass for heads
    # this narrow.
    with sdpa_kernel(SDPBackend.MATH):
        with torch.autocast("cpu", torch.bfloat16):
            predicted = model(noisy, timesteps, states, pooled)
        loss = (predicted.float() - velocity).square().mean()
        model.unet.zero_grad()
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.unet.parameters(), CLIP_NORM)
    for optimizer in optimizers:
        optimizer.step()
    return loss.item()


def _save(
    path: Path,
    model: BaseModel,
    optimizers: list[torch.optim.Optimizer],
    done: int,
    losses: list[float],
) -> None:
    state = {
        "unet": model.unet.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "done": done,
        "losses": losses,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _load(
    path: Path,
    model: BaseModel,
    optimizers: list[torch.optim.Optimizer],
) -> tuple[int, list[float]]:
    """Restore a checkpoint; (0, []) where there is none."""
    if not path.is_file():
        return 0, []
    state = torch.load(path, weights_only=True)
    model.unet.load_state_dict(state["unet"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    print(f"resumed at step {state['done']} from {path}", flush=True)
    return state["done"], state["losses"]

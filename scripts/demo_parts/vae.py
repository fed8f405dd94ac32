"""The autoencoder: 64-pixel RGB to a 16 x 16 x 4 latent, and its training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from demo_parts.recipe import Recipe

KL_WEIGHT = 5e-4
EDGE_WEIGHT = 0.5
CHROMA_WEIGHT = 3.0
CHROMA_BLOCK = 4
# Green against violet, the axis that few emoji use, is lent the last latent channel at
# first; left alone, encoder and decoder never begin to speak of it.
ANCHOR_WEIGHT, ANCHOR_SCALE = 2.0, 8.0
FIRST_LOGVAR = -5.0
REPORT_EVERY = 20
WARM_UP = 50


def build_vae() -> AutoencoderKL:
    """A small AutoencoderKL with two downsamples and SDXL's block types."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        # Few groups: GroupNorm hides a group's level, and with it the color of a page.
        norm_num_groups=4,
        sample_size=64,
        force_upcast=False,
    )


def to_model_range(pixels: np.ndarray) -> Tensor:
    """Map uint8 (batch, height, width, 3) to float (batch, 3, h, w) in [-1, 1]."""
    image = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    # Not channels_last: the backward pass of bf16 GroupNorm is six times slower there.
    return image.contiguous()


def vae_loss(vae: Any, images: Tensor, anchor: float) -> tuple[Tensor, Tensor]:
    """L1 + MSE + edge L1 + color + a little KL; pixel values are in [-1, 1].

    Args:
        vae: the autoencoder.
        images: (batch, 3, 64, 64).
        anchor: share of ANCHOR_WEIGHT that still holds.

    Returns:
        The loss and, for the log, the mean absolute error.
    """
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(images).latent_dist
        rebuilt = vae.decode(posterior.sample()).sample
    error = rebuilt.float() - images
    kl = posterior.mean.float() ** 2 + posterior.var.float() - 1
    kl = 0.5 * (kl - posterior.logvar.float()).mean()
    # Differences of neighbors: emoji are flat areas with sharp outlines.
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    l1 = error.abs().mean()
    loss = l1 + error.square().mean() + EDGE_WEIGHT * edges + KL_WEIGHT * kl
    warm, leafy = color_axes(error)
    loss = loss + CHROMA_WEIGHT * (warm.abs().mean() + leafy.abs().mean())
    _, green = color_axes(images)
    lent = posterior.mean[:, -1].float() - ANCHOR_SCALE * green
    return loss + anchor * ANCHOR_WEIGHT * lent.abs().mean(), l1


def color_axes(images: Tensor) -> tuple[Tensor, Tensor]:
    """Red - blue and green - violet over blocks of pixels, (batch, 16, 16) each."""
    blocks = torch.nn.functional.avg_pool2d(images, CHROMA_BLOCK)
    red, green, blue = blocks.unbind(1)
    return (red - blue) / 2**0.5, (2 * green - red - blue) / 6**0.5


def train_vae(pixels: np.ndarray, target: Path, recipe: Recipe) -> AutoencoderKL:
    """Train on uint8 (image, 64, 64, 3), or resume; save into `target`.

    Images are never cropped: GroupNorm's statistics of a crop are not a image's.
    Batches and the latents' noise depend on the seed and the step alone.
    """
    torch.manual_seed(recipe.seed)
    vae: Any = build_vae()
    # A log-variance of 0 would drown the first latents in noise.
    torch.nn.init.constant_(vae.quant_conv.bias[4:], FIRST_LOGVAR)
    optimizer = torch.optim.AdamW(
        vae.parameters(), recipe.lr, betas=(0.9, 0.99), fused=True
    )
    state_file = target.with_suffix(".pt")
    first = _resume(state_file, vae, optimizer)
    started = time.monotonic()
    for step in range(first, recipe.steps):
        torch.manual_seed(int(recipe.random(step).integers(2**62)))
        images = to_model_range(pixels[recipe.chosen(step, len(pixels))])
        loss, l1 = vae_loss(vae, images, anchor=1 - step / recipe.steps)
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step, WARM_UP)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        done = step + 1
        if done % REPORT_EVERY == 0:
            seconds = (time.monotonic() - started) / (done - first)
            print(
                f"vae {done}/{recipe.steps} loss {loss.item():.4f} "
                f"l1 {l1.item():.4f} {seconds:.3f} s/step",
                flush=True,
            )
        if done % recipe.every == 0 or done == recipe.steps:
            vae.save_pretrained(target)
            _keep(state_file, vae, optimizer, done)
    return vae


def _keep(
    path: Path, vae: AutoencoderKL, optimizer: torch.optim.Optimizer, done: int
) -> None:
    partial = path.with_suffix(".partial")
    state = {"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "done": done}
    torch.save(state, partial)
    partial.replace(path)


def _resume(path: Path, vae: AutoencoderKL, optimizer: torch.optim.Optimizer) -> int:
    """Restore a checkpoint; 0 where there is none."""
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    vae.load_state_dict(state["vae"])
    optimizer.load_state_dict(state["optimizer"])
    print(f"resumed at step {state['done']} from {path}", flush=True)
    return state["done"]


@torch.no_grad()
def encode_means(vae: Any, pixels: np.ndarray, batch: int = 64) -> Tensor:
    """Posterior means (image, 4, 16, 16) of uint8 images, unscaled."""
    parts = []
    for start in range(0, len(pixels), batch):
        images = to_model_range(pixels[start : start + batch])
        parts.append(vae.encode(images).latent_dist.mean)
    return torch.cat(parts)


@torch.no_grad()
def decode(vae: Any, latents: Tensor) -> np.ndarray:
    """Decode unscaled latents (image, 4, 16, 16) to uint8 (image, 64, 64, 3)."""
    images = vae.decode(latents).sample.clamp(-1, 1)
    return ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()

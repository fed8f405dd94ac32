r"""Images to latents and back, as the stock pipelines scale them.

With the VAE's posterior mean :math:`z`: latents are :math:`s\,z`,
:math:`s\,(z - m)` for a VAE whose config has a ``shift_factor`` m, or
:math:`s\,(z - \mu)/\sigma` for one with ``latents_mean`` and ``latents_std``; s is
``scaling_factor``.
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor

__all__ = ["decode_latents", "encode_latents", "image_of"]


def encode_latents(vae: Any, pixels: Tensor) -> Tensor:
    """Encode ``(batch, 3, H, W)`` in [-1, 1] to ``(batch, channels, h, w)`` latents.

    Uses the mean instead of a sample, so that an image always has the same latents.
    """
    mean, std = _statistics(vae, pixels)
    found = vae.encode(pixels).latent_dist.mode()
    return (found - mean) / std * vae.config.scaling_factor


def decode_latents(vae: Any, latents: Tensor) -> Tensor:
    """Decode ``(batch, channels, h, w)`` latents to ``(batch, 3, H, W)`` pixels."""
    mean, std = _statistics(vae, latents)
    return vae.decode(latents * std / vae.config.scaling_factor + mean).sample


def image_of(pixels: Tensor) -> Image.Image:
    """Convert ``(3, height, width)`` in [-1, 1] to an image. Values are clipped."""
    levels = (pixels / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
    mean = getattr(vae.config, "latents_mean", None)
    std = getattr(vae.config, "latents_std", None)
    if mean is None or std is None:
        return getattr(vae.config, "shift_factor", None) or 0.0, 1.0
    shape = (1, -1, 1, 1)
    return (
        torch.tensor(mean, device=like.device, dtype=like.dtype).view(shape),
        torch.tensor(std, device=like.device, dtype=like.dtype).view(shape),
    )

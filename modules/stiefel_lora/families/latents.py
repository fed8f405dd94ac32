r"""Encoding of images to latents and decoding, with the scaling of diffusers pipelines.

With the mean :math:`z` of the posterior of the VAE and its ``scaling_factor`` s,
latents are :math:`s\,z`. They are :math:`s\,(z - m)` if the VAE has a ``shift_factor``
m, and :math:`s\,(z - \mu)/\sigma` if it has ``latents_mean`` and ``latents_std``.
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor

__all__ = ["decode_latents", "encode_latents", "has_nan", "image_of"]

# Key in Image.info. PNG files do not contain it.
_NOT_FINITE = "not_finite"


def encode_latents(vae: Any, pixels: Tensor) -> Tensor:
    """Encode pixels ``(batch, 3, H, W)`` in [-1, 1] to ``(batch, channels, h, w)``.

    The mean of the posterior is used instead of a sample.
    """
    mean, std = _statistics(vae, pixels)
    found = vae.encode(pixels).latent_dist.mode()
    return (found - mean) / std * vae.config.scaling_factor


def decode_latents(vae: Any, latents: Tensor) -> Tensor:
    """Decode ``(batch, channels, h, w)`` latents to ``(batch, 3, H, W)`` pixels."""
    mean, std = _statistics(vae, latents)
    return vae.decode(latents * std / vae.config.scaling_factor + mean).sample


def image_of(pixels: Tensor) -> Image.Image:
    """Convert pixels ``(3, height, width)`` in [-1, 1] to an image, with clipping.

    NaN becomes black. Use :func:`has_nan` to find such images.
    """
    levels = (pixels / 2 + 0.5).clamp(0, 1).nan_to_num(0.0).mul(255).round()
    image = Image.fromarray(levels.to(torch.uint8).permute(1, 2, 0).cpu().numpy())
    image.info[_NOT_FINITE] = not bool(pixels.isfinite().all())
    return image


def has_nan(image: Image.Image) -> bool:
    """Return whether an image was made of pixels with NaN or infinity."""
    return bool(image.info.get(_NOT_FINITE))


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

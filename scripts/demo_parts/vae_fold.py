"""Fold a shift and a channel scale of the latents into the 1x1 convolutions.

SDXL's noise schedule ends at a signal-to-noise ratio above zero, so what the sampler
starts from (pure noise) differs from what training saw by a little of the image. On a
white page that remainder is the same for every image: the sampler draws gray pages
unless a white image sits at latent 0. With z the trained latent,

    z' = s * (z - shift),    shift = latent of white,    s = m / std(z - shift)

per channel, where m is the mean of the standard deviations. `quant_conv` makes z' and
`post_quant_conv` undoes it, so images are rebuilt as before, exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from demo_parts.vae import encode_means

CHANNELS = 4


@torch.no_grad()
def fold(vae: AutoencoderKL, pixels: np.ndarray) -> float:
    """Change `vae` in place so that white is 0 and channels are alike.

    Args:
        vae: a trained autoencoder.
        pixels: uint8 (image, 64, 64, 3), for the channel deviations.

    Returns:
        The scaling factor, 1 / (standard deviation of the new latents), which is
        also written into the config.
    """
    white = np.full((1, 64, 64, 3), 255, dtype=np.uint8)
    shift = encode_means(vae, white)[0].mean(dim=(1, 2))
    centred = encode_means(vae, pixels) - shift[:, None, None]
    deviation = centred.square().mean(dim=(0, 2, 3)).sqrt()
    scale = deviation.mean() / deviation
    _fold_encoder(vae.quant_conv, shift, scale)
    _fold_decoder(vae.post_quant_conv, shift, scale)
    factor = round(1 / deviation.mean().item(), 5)
    vae.register_to_config(scaling_factor=factor)
    return factor


def _fold_encoder(conv: Any, shift: Tensor, scale: Tensor) -> None:
    """Rows 0-3 give the mean, rows 4-7 the log-variance."""
    mean = slice(0, CHANNELS)
    conv.weight[mean] *= scale[:, None, None, None]
    conv.bias[mean] = (conv.bias[mean] - shift) * scale
    conv.bias[CHANNELS:] += 2 * scale.log()


def _fold_decoder(conv: Any, shift: Tensor, scale: Tensor) -> None:
    """post(z) = W z + b with z = z' / s + shift."""
    conv.bias += conv.weight[:, :, 0, 0] @ shift
    conv.weight /= scale[None, :, None, None]

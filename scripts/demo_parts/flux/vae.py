"""The SDXL demo's autoencoder in FLUX's form: no quant convolutions, one shift.

FLUX reads latents as `(y - shift_factor) * scaling_factor` with one number each for all
channels, and its AutoencoderKL lacks the two 1x1 convolutions. Let z be SDXL's latent,
W and b weight and bias of `post_quant_conv`, m the mean of z over the images. Then

    y = H (z + W^-1 b),   H (m + W^-1 b) = |m + W^-1 b| / 2 * (1, 1, 1, 1)

for a Householder reflection H. The mean of y is the same in all four channels, so one
shift centers them all, and the decoder's first convolution takes in W H without a bias
that zero padding would treat otherwise. Images are rebuilt as before, exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from demo_parts.vae import encode_means


@torch.no_grad()
def without_quant_convs(vae: AutoencoderKL, pixels: np.ndarray) -> AutoencoderKL:
    """A new autoencoder that rebuilds what `vae` does.

    Args:
        vae: SDXL's, with both 1x1 convolutions.
        pixels: uint8 (image, 64, 64, 3), for mean and deviation of the latents.

    Returns:
        FLUX's, with `shift_factor` and `scaling_factor` set.
    """
    settings = {k: v for k, v in vae.config.items() if not k.startswith("_")}
    settings |= {"use_quant_conv": False, "use_post_quant_conv": False}
    made: Any = AutoencoderKL.from_config(settings)
    made.load_state_dict(vae.state_dict(), strict=False)
    mean = encode_means(vae, pixels).mean(dim=(0, 2, 3))
    inner, outer = _post_quant(vae)
    reflection = even_reflection(mean + outer)
    _fold_encoder(made.encoder.conv_out, vae.quant_conv, outer, reflection)
    weight = made.decoder.conv_in.weight
    folded = torch.einsum("ochw,cd->odhw", weight, inner @ reflection)
    weight.copy_(folded)
    latents = encode_means(made.eval(), pixels)
    made.register_to_config(
        shift_factor=round(latents.mean().item(), 5),
        scaling_factor=round(1 / latents.std().item(), 5),
    )
    return made


def even_reflection(vector: Tensor) -> Tensor:
    """The Householder matrix that gives `vector` equal positive entries, (n, n)."""
    even = torch.full_like(vector, len(vector) ** -0.5)
    normal = vector - vector.norm() * even
    normal = normal / normal.norm()
    return torch.eye(len(vector)) - 2 * torch.outer(normal, normal)


def _post_quant(vae: Any) -> tuple[Tensor, Tensor]:
    """W and W^-1 b."""
    weight = vae.post_quant_conv.weight[:, :, 0, 0]
    return weight, torch.linalg.solve(weight, vae.post_quant_conv.bias)


def _fold_encoder(conv: Any, quant: Any, offset: Tensor, reflection: Tensor) -> None:
    """Rows 0-3 give the mean, rows 4-7 the log-variance.

    The reflected noise is not independent any more; its channels get the means of the
    old log-variances, weighted by what each gives.
    """
    half = len(offset)
    turn = torch.block_diag(reflection, reflection.square())
    weight, bias = quant.weight[:, :, 0, 0], quant.bias.clone()
    bias[:half] += offset
    conv.weight.copy_(torch.einsum("oc,cihw->oihw", turn @ weight, conv.weight))
    conv.bias.copy_(turn @ (weight @ conv.bias + bias))

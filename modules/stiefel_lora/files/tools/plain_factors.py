r"""Conversion of all stored forms of a LoRA layer to two factors.

* A Tucker core of LyCORIS and sd-scripts, ``lora_mid`` (r, r, k, k) between a 1 x 1
  ``lora_down`` and a 1 x 1 ``lora_up``: :math:`W_{oikl} = \sum_{pq} U_{op} M_{pqkl}
  D_{qi}`. M D is the A of a plain LoRA of the same rank.
* The kernel in B, (out, r, k, k), and a 1 x 1 A: as one product it has rank
  :math:`r k^2`.
* One factor of a 1 x 1 convolution stored as a matrix, the other not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..._exceptions import ModelError
from ..weights import LoraFactors, at_least_float32

__all__ = ["plain_factors"]


def plain_factors(
    up: Tensor,
    down: Tensor,
    mid: Tensor | None = None,
    *,
    alpha: float,
    magnitude: Tensor | None = None,
    dora_scale: Tensor | None = None,
) -> LoraFactors:
    """Create the factors (out, r) and (r, in), with kernels for convolutions.

    Args:
        up: tensor ``lora_up`` or ``lora_B``.
        down: tensor ``lora_down`` or ``lora_A``. Its first dimension is the rank by
            which alpha is divided.
        mid: tensor ``lora_mid`` (Tucker core).
        alpha: alpha stored in the file.
        magnitude: DoRA scale in the PEFT format.
        dora_scale: DoRA scale in the kohya format.

    Raises:
        ModelError: If the shapes do not match, or a factor does not have a
            floating-point dtype.
    """
    for factor in (up, down, *(() if mid is None else (mid,))):
        if not factor.is_floating_point():
            raise ModelError(
                "factors must have a floating point dtype, but got "
                f"{str(factor.dtype).removeprefix('torch.')}."
            )
    rank = down.shape[0] if down.ndim else 0
    if mid is not None:
        down = _with_core(up, mid, down)
    up, down = _same_dimensions(up, down)
    if up.ndim > 2 and any(size != 1 for size in up.shape[2:]):
        up, down = _kernel_in_down(up, down)
    if rank and down.shape[:1] != (rank,):
        # Loaders divide by the rank of the stored A, so alpha is adjusted to keep alpha
        # / r.
        alpha = alpha * down.shape[0] / rank
    return LoraFactors(up, down, alpha, magnitude, dora_scale)


def _with_core(up: Tensor, mid: Tensor, down: Tensor) -> Tensor:
    fits = min(mid.ndim - 1, up.ndim, down.ndim) > 1 and (
        (up.shape[1:2], down.shape[:1]) == (mid.shape[:1], mid.shape[1:2])
    )
    if not fits or down.numel() != down.shape[0] * down.shape[1]:
        raise ModelError(
            f"the shape of lora_mid, {tuple(mid.shape)}, does not match the shapes "
            f"of up, {tuple(up.shape)}, and down, {tuple(down.shape)}."
        )
    core, thin = mid.flatten(2), down.flatten(1)
    product = torch.einsum("pqk,qi->pik", core.double(), thin.double())
    wide = product.reshape(mid.shape[0], down.shape[1], *mid.shape[2:])
    # A product of two low-precision factors needs more digits than either.
    return wide.to(at_least_float32(down.dtype))


def _same_dimensions(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    if up.ndim == 2 < down.ndim:
        up = up.reshape(*up.shape, *[1] * (down.ndim - 2))
    elif down.ndim == 2 < up.ndim:
        down = down.reshape(*down.shape, *[1] * (up.ndim - 2))
    return up, down


def _kernel_in_down(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """Move the kernel from B to A. The rank is multiplied by the kernel elements."""
    kernel = up.shape[2:]
    if any(size != 1 for size in down.shape[2:]) or up.shape[1] != down.shape[0]:
        raise ModelError(
            f"up {tuple(up.shape)} and down {tuple(down.shape)} are not the factors "
            "of a convolution, because neither of them is 1 x 1."
        )
    places = kernel.numel()
    wide_up = up.reshape(up.shape[0], -1, *[1] * len(kernel))
    one_each = torch.eye(places, dtype=torch.float32).to(down.dtype)
    # (r, places, in, places): factor (q, place) acts on its own kernel position only.
    spread = down.reshape(down.shape[0], 1, -1, 1) * one_each[None, :, None, :]
    return wide_up, spread.reshape(-1, down.shape[1], *kernel)

r"""Conversion of DoRA between the PEFT and kohya formats, and the resulting weight.

In both formats, the rows of :math:`W + s\,BA` are scaled. In the PEFT format, the
magnitude :math:`m` contains the norms of the rows of the result,

.. math:: W' = \mathrm{diag}(m_i / \|W_i + s (BA)_i\|)\,(W + s\,BA).

In the kohya format, ComfyUI (comfy/weight_adapter/base.py) and Forge
(backend/patcher/lora.py) divide the ``dora_scale`` :math:`d` by the norms of the rows
of W,

.. math:: W' = \mathrm{diag}(d_i / (\|W_i\| + \epsilon))\,(W + s\,BA),

if the first dimension of d is the number of rows; :math:`\epsilon` is that of float32.
Otherwise they scale columns, which peft does not support. If :math:`W` is known, m and
d can be converted to each other.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from .._exceptions import ModelError
from .weights import LoraFactors

__all__ = ["apply_lora", "complete_dora", "neutral_dora", "row_scale"]

_EPSILON = torch.finfo(torch.float32).eps


def row_scale(magnitude: Tensor, base: Tensor, merged: Tensor) -> Tensor:
    """Convert the magnitude of peft to ``dora_scale``.

    Args:
        magnitude: m of every row, (out,).
        base: norms of the rows of W, (out,).
        merged: norms of the rows of W + s B A, (out,).

    Returns:
            d of every row, (out,). It is 0 for rows of zeros.
    """
    scale = magnitude * (base + _EPSILON) / merged
    return torch.where(merged > 0, scale, base)


def apply_lora(weight: Tensor, factors: LoraFactors) -> Tensor:
    """Compute the weight of a layer with its LoRA or DoRA applied.

    Args:
        weight: W of the base model, (out, in) or (out, in, k, k), floating.
        factors: LoRA or DoRA factors of this layer.

    Returns:
        W', with the shape and dtype of ``weight``.

    Raises:
        ModelError: If the factors do not match the shape of the weight.
    """
    merged = _merged(weight, factors)
    if factors.magnitude is not None:
        # A row of zeros stays zero.
        lengths = _lengths(merged).clamp_min(torch.finfo(weight.dtype).tiny)
        scale = _column(factors.magnitude, weight) / lengths
    elif factors.dora_scale is not None:
        scale = _column(factors.dora_scale, weight) / (_lengths(weight) + _EPSILON)
    else:
        return merged.reshape(weight.shape)
    return (scale * merged).reshape(weight.shape)


def complete_dora(factors: LoraFactors, weight: Tensor) -> LoraFactors:
    """Compute the missing one of magnitude and ``dora_scale`` of a DoRA layer.

    Args:
        factors: factors of a layer. A plain LoRA is returned unchanged.
        weight: W of the base model that the LoRA was trained on, (out, in) or (out, in,
            k, k).

    Raises:
        ModelError: If the factors do not match the shape of the weight.
    """
    if not factors.is_dora:
        return factors
    base = _lengths(weight.float()).flatten()
    merged = _lengths(_merged(weight.float(), factors)).flatten()
    magnitude, scale = factors.magnitude, factors.dora_scale
    if scale is None:
        assert magnitude is not None
        scale = row_scale(magnitude.flatten().to(base), base, merged)
    elif magnitude is None:
        magnitude = scale.flatten().to(base) * merged / (base + _EPSILON)
    return dataclasses.replace(factors, magnitude=magnitude, dora_scale=scale)


def neutral_dora(factors: LoraFactors, weight: Tensor) -> LoraFactors:
    """Convert a plain LoRA layer to a DoRA layer with the same update.

    Args:
        factors: factors of a plain LoRA.
        weight: W of the base model, (out, in) or (out, in, k, k).

    Raises:
        ModelError: If the factors do not match the shape of the weight.
    """
    wide = weight.float()
    return dataclasses.replace(
        factors,
        magnitude=_lengths(_merged(wide, factors)).flatten(),
        dora_scale=_lengths(wide).flatten() + _EPSILON,
    )


def _merged(weight: Tensor, factors: LoraFactors) -> Tensor:
    """Return W + s B A as a matrix with one row per output."""
    rows = weight.flatten(1)
    up, down = (f.to(weight).flatten(1) for f in (factors.up, factors.down))
    if (up.shape[0], down.shape[1]) != tuple(rows.shape):
        raise ModelError(
            f"A weight of shape {tuple(weight.shape)} does not match factors for "
            f"{up.shape[0]} outputs and {down.shape[1]} inputs. Pass the weight of "
            "the trained layer."
        )
    return torch.addmm(rows, up, down, alpha=factors.scale)


def _lengths(weight: Tensor) -> Tensor:
    """Return the norms of the rows, (out, 1)."""
    return weight.flatten(1).norm(dim=1, keepdim=True)


def _column(lengths: Tensor, weight: Tensor) -> Tensor:
    return lengths.to(weight).reshape(-1, 1)

r"""Loss weights of noise levels, as functions of the signal-to-noise ratio s.

The error of a model that predicts the velocity v is :math:`\|e_v\|^2 = \frac{s +
1}{s}\,\|e_\epsilon\|^2`. For such models, weights that are defined for noise prediction
are multiplied by s / (s + 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = [
    "LEVEL_WEIGHTS",
    "LevelWeight",
    "constant",
    "debiased_estimation",
    "min_snr_gamma",
    "sigma",
]

LevelWeight: TypeAlias = Callable[[Tensor, bool, float], Tensor]
"""Function of the ratios ``(batch,)``, whether the model predicts v, and gamma."""

# SDXL's largest ratio, at its lowest noise level, is 1176; kohya clips here, too.
_LARGEST = 1e3


def constant(ratio: Tensor, velocity: bool, gamma: float) -> Tensor:
    """Return 1 for all noise levels."""
    return torch.ones_like(ratio)


def min_snr_gamma(ratio: Tensor, velocity: bool, gamma: float) -> Tensor:
    """Return min(s, gamma) / s, or min(s, gamma) / (s + 1) for the velocity.

    Source: T. Hang et al., "Efficient Diffusion Training via Min-SNR Weighting
    Strategy", 2023, arXiv:2303.09556, section 3.4.
    """
    if velocity:
        return ratio.clamp_max(gamma) / (ratio + 1)
    # In this form, a level without any signal gets 1 instead of 0 / 0.
    return (gamma / ratio).clamp_max(1)


def debiased_estimation(ratio: Tensor, velocity: bool, gamma: float) -> Tensor:
    """Return 1 / sqrt(s), or sqrt(s) / (s + 1) for the velocity.

    Source: H. Yu et al., "Unmasking Bias in Diffusion Model Training", 2023,
    arXiv:2310.08442. s is clipped to [1e-4, 1000].
    """
    ratio = ratio.clamp(1e-4, _LARGEST)
    return ratio.sqrt() / (ratio + 1) if velocity else ratio.rsqrt()


def sigma(ratio: Tensor, velocity: bool, gamma: float) -> Tensor:
    """Return the noise level sigma = 1 / (1 + sqrt(s)), as in OneTrainer."""
    return 1 / (1 + ratio.sqrt())


LEVEL_WEIGHTS: dict[str, LevelWeight] = {
    "constant": constant,
    "min_snr_gamma": min_snr_gamma,
    "debiased_estimation": debiased_estimation,
    "sigma": sigma,
}
"""Functions by their names in configurations."""

r"""Weights of the noise levels: pure functions of the signal-to-noise ratio.

A model that predicts the velocity v has the error
:math:`\|e_v\|^2 = \frac{s + 1}{s}\,\|e_\epsilon\|^2` for the same image, where s is
the ratio; weights defined for noise prediction are multiplied by s / (s + 1) for it.
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
"""(ratios ``(batch,)``, whether the model predicts the velocity, gamma) -> weights."""

# SDXL's largest ratio, at its lowest noise level, is 1176; kohya clips here, too.
_LARGEST = 1e3


def constant(ratio: Tensor, velocity: bool, gamma: float) -> Tensor:
    """1, the loss of the papers on epsilon and velocity."""
    return torch.ones_like(ratio)


def min_snr_gamma(ratio: Tensor, velocity: bool, gamma: float) -> Tensor:
    """min(s, gamma) / s, and min(s, gamma) / (s + 1) for the velocity.

    Source: T. Hang et al., "Efficient Diffusion Training via Min-SNR Weighting
    Strategy", 2023, arXiv:2303.09556, section 3.4.
    """
    if velocity:
        return ratio.clamp_max(gamma) / (ratio + 1)
    # In this form, a level without any signal gets 1 instead of 0 / 0.
    return (gamma / ratio).clamp_max(1)


def debiased_estimation(ratio: Tensor, velocity: bool, gamma: float) -> Tensor:
    """1 / sqrt(s), and sqrt(s) / (s + 1) for the velocity.

    Source: H. Yu et al., "Unmasking Bias in Diffusion Model Training", 2023,
    arXiv:2310.08442. s is clipped to 1000. Below 1e-4 there is practically no signal.
    """
    ratio = ratio.clamp(1e-4, _LARGEST)
    return ratio.sqrt() / (ratio + 1) if velocity else ratio.rsqrt()


def sigma(ratio: Tensor, velocity: bool, gamma: float) -> Tensor:
    """Noise level sigma = 1 / (1 + sqrt(s)) of a flow x = (1 - sigma) x0 + sigma n.

    OneTrainer's weight of this name.
    """
    return 1 / (1 + ratio.sqrt())


LEVEL_WEIGHTS: dict[str, LevelWeight] = {
    "constant": constant,
    "min_snr_gamma": min_snr_gamma,
    "debiased_estimation": debiased_estimation,
    "sigma": sigma,
}
"""By the name in configurations."""

r"""Functions shared by families of rectified flow from noise to image.

At noise level :math:`\sigma` the latents are
:math:`(1 - \sigma)\,x_0 + \sigma\,n` and the target is :math:`n - x_0`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["dynamic_shift", "flow_signal_to_noise"]


def flow_signal_to_noise(sigmas: Tensor) -> Tensor:
    r"""Return the signal power over noise power :math:`((1 - \sigma) / \sigma)^2`.

    Args:
        sigmas: ``(batch,)`` in (0, 1].
    """
    return ((1 - sigmas) / sigmas).square()


def dynamic_shift(tokens: int, scheduler: Mapping[str, Any]) -> float:
    r"""Shift of an image of ``tokens`` tokens: :math:`e^{\mu}`, mu linear in tokens.

    FLUX's scheduler goes from ``base_shift`` (0.5) at ``base_image_seq_len`` (256) to
    ``max_shift`` (1.15) at ``max_image_seq_len`` (4096): 1024 px are shifted by 3.16.

    Args:
        tokens: number of patches of the image in the transformer.
        scheduler: configuration of ``FlowMatchEulerDiscreteScheduler``.
    """
    few, many = scheduler["base_image_seq_len"], scheduler["max_image_seq_len"]
    low, high = scheduler["base_shift"], scheduler["max_shift"]
    slope = (high - low) / (many - few)
    return math.exp(low + slope * (tokens - few))

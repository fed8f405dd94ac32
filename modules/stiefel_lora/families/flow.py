r"""Functions for rectified flow models.

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
    r"""Return the signal-to-noise ratio :math:`((1 - \sigma) / \sigma)^2`.

    Args:
        sigmas: ``(batch,)`` in (0, 1].
    """
    return ((1 - sigmas) / sigmas).square()


def dynamic_shift(tokens: int, scheduler: Mapping[str, Any]) -> float:
    r"""Return the shift :math:`e^{\mu}` of an image, where mu is linear in ``tokens``.

    In the scheduler of FLUX, mu is ``base_shift`` (0.5) at ``base_image_seq_len`` (256)
    and ``max_shift`` (1.15) at ``max_image_seq_len`` (4096). The shift is 3.16 for 1024
    pixels.

    Args:
        tokens: number of patches of the image in the transformer.
        scheduler: configuration of ``FlowMatchEulerDiscreteScheduler``.
    """
    few, many = scheduler["base_image_seq_len"], scheduler["max_image_seq_len"]
    low, high = scheduler["base_shift"], scheduler["max_shift"]
    slope = (high - low) / (many - few)
    return math.exp(low + slope * (tokens - few))

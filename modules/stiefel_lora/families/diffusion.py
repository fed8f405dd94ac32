"""Functions for families with a discrete noise schedule."""

from __future__ import annotations

from torch import Tensor

__all__ = ["signal_to_noise"]


def signal_to_noise(alphas_cumprod: Tensor, timesteps: Tensor) -> Tensor:
    r"""Return the signal-to-noise ratio :math:`\bar\alpha_t / (1 - \bar\alpha_t)`.

    Args:
        alphas_cumprod: table of the noise schedule, ``(steps,)``.
        timesteps: integers ``(batch,)``.

    Returns:
        ``(batch,)`` float32 on the device of the timesteps.
    """
    share = alphas_cumprod.to(timesteps.device)[timesteps].double()
    return (share / (1 - share)).float()

"""Random noise and timesteps for training.

They are drawn on the CPU, so that they do not depend on the device. The generator is
not used for anything else, and its state is saved in checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .timesteps import PlaceDraw, make_draw

if TYPE_CHECKING:
    from ...config import TrainConfig
    from ...families import Family

__all__ = ["NoiseSource", "make_noise_source"]


class NoiseSource:
    r"""Generator of noise and timesteps.

    Args:
        seed: seed of the generator.
        draw: sampler of noise levels in [0, 1).
        timesteps_at: function of the model family that converts noise levels to
            timesteps.
        offset_weight: strength w of offset noise,
            :math:`n_{c,i,j} = z_{c,i,j} + w\,y_c` with z and y standard normal
            (N. Guttenberg, "Diffusion with Offset Noise", 2023).
    """

    def __init__(
        self,
        seed: int,
        draw: PlaceDraw,
        timesteps_at: Callable[[Tensor], Tensor],
        offset_weight: float = 0.0,
    ) -> None:
        # A separate generator on the CPU: samples and dropout do not affect the noise
        # of training, which is the same on every device.
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._places = draw
        self._timesteps_at = timesteps_at
        self._offset_weight = offset_weight

    def draw(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Draw noise with the shape of ``latents`` and timesteps ``(batch,)``."""
        # The order of these draws is fixed: changing it changes the noise of every run.
        noise = torch.randn(latents.shape, generator=self._generator)
        places = self._places.draw(latents, self._generator)
        if self._offset_weight:
            level = torch.randn((*latents.shape[:2], 1, 1), generator=self._generator)
            noise += self._offset_weight * level
        return noise, self._timesteps_at(places)

    def state(self) -> Tensor:
        """Return the state of the generator."""
        return self._generator.get_state()

    def restore(self, state: Tensor) -> None:
        """Restore a state returned by :meth:`state`."""
        self._generator.set_state(state.cpu())


def make_noise_source(config: TrainConfig, family: Family) -> NoiseSource:
    """Create the noise source of a configuration."""
    return NoiseSource(
        config.seed,
        make_draw(config, family.timesteps, family.resolution_shift),
        family.timesteps_at,
        config.offset_noise_weight,
    )

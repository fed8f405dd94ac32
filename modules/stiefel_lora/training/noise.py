"""Noise and timesteps of training, from a generator of their own.

Drawn on the CPU, so that a run is the same whatever it computes on; nothing else draws
from it (samples, validation and data order have their own), so its state in a
checkpoint is enough for an exact resume.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["NoiseSource"]


class NoiseSource:
    """Standard normal noise and uniform timesteps."""

    def __init__(self, seed: int, timesteps: int) -> None:
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._timesteps = timesteps

    def draw(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Noise like ``latents`` (float32) and ``(batch,)`` int64 timesteps, on CPU."""
        noise = torch.randn(latents.shape, generator=self._generator)
        timesteps = torch.randint(
            self._timesteps, (latents.shape[0],), generator=self._generator
        )
        return noise, timesteps

    def state(self) -> Tensor:
        """State of the generator."""
        return self._generator.get_state()

    def restore(self, state: Tensor) -> None:
        """Go on from a state that ``state`` returned."""
        self._generator.set_state(state.cpu())

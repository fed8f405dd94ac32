"""Random noise and timesteps for training.

They are drawn on the CPU, so that they do not depend on the device. The generator is
not used for anything else, and its state is saved in checkpoints.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from ..distributed import ALONE, Processes
from .timesteps import PlaceDraw, make_draw

if TYPE_CHECKING:
    from ...config import TrainConfig
    from ...families import Family

__all__ = ["NoiseSettings", "NoiseSource", "make_noise_source"]


@dataclasses.dataclass(frozen=True)
class NoiseSettings:
    r"""Changes of the standard normal noise z, in the order in which they are applied.

    Offset noise (N. Guttenberg, "Diffusion with Offset Noise", 2023) adds
    :math:`w\,y_c` with y standard normal. With ``adaptive_scale`` a, the weight is
    :math:`\max(0, w + a\,|m_c|)` for latents with the mean m in channel c.

    Multires noise (J. Whitaker, "Multi-Resolution Noise for Diffusion Model Training",
    2023) adds :math:`d^k` times noise whose sides are :math:`r_k^k` times smaller,
    with r between 2 and 4, and divides the sum by its standard deviation.

    Perturbation noise of OneTrainer adds a second standard normal noise to the noise
    and the target. Input perturbation (M. Ning et al., "Input Perturbation Reduces
    Exposure Bias in Diffusion Models", 2023, arXiv:2301.11706) adds it to the input of
    the model only.

    With a random strength, the weight of a batch is uniform from 0 to the given one.
    """

    offset_weight: float = 0.0
    offset_random_strength: bool = False
    adaptive_scale: float = 0.0
    multires_iterations: int = 0
    multires_discount: float = 0.3
    perturbation_weight: float = 0.0
    input_gamma: float = 0.0
    input_random_strength: bool = False


class NoiseSource:
    r"""Generator of noise and timesteps.

    Args:
        seed: seed of the generator.
        draw: sampler of noise levels in [0, 1).
        timesteps_at: function of the model family that converts noise levels to
            timesteps.
        settings: changes of the noise.
        processes: processes that share a batch. Each draws the numbers of the whole
            batch and uses its part of them.
    """

    def __init__(
        self,
        seed: int,
        draw: PlaceDraw,
        timesteps_at: Callable[[Tensor], Tensor],
        settings: NoiseSettings | None = None,
        processes: Processes = ALONE,
    ) -> None:
        # A separate generator on the CPU: samples and dropout do not affect the noise
        # of training, which is the same on every device.
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._places = draw
        self._timesteps_at = timesteps_at
        self._settings = settings or NoiseSettings()
        self._processes = processes

    def draw(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Draw noise with the shape of ``latents`` and timesteps ``(batch,)``."""
        # The order of these draws is fixed: changing it changes the noise of every run.
        settings, share = self._settings, self._processes.share
        shape = torch.Size((share.total(len(latents)), *latents.shape[1:]))
        noise = self._normal(shape)
        # Only the shape is used.
        places = self._places.draw(latents[:1].expand(shape), self._generator)
        if settings.offset_weight:
            strength = self._offset_strength(latents)
            noise += strength * self._normal((*shape[:2], 1, 1))
        if settings.multires_iterations:
            noise = self._with_coarse_noise(noise)
        if settings.perturbation_weight:
            noise += settings.perturbation_weight * self._normal(noise.shape)
        rows = share.rows(len(latents))
        return noise[rows], self._timesteps_at(places[rows])

    def perturbed(self, noise: Tensor) -> Tensor | None:
        """Return the noise of the model input, or None if it is that of the target.

        Called after :meth:`draw`, with its result.
        """
        gamma: float | Tensor = self._settings.input_gamma
        if not gamma:
            return None
        if self._settings.input_random_strength:
            gamma = gamma * self._uniform()
        share = self._processes.share
        drawn = self._normal((share.total(len(noise)), *noise.shape[1:]))
        return noise + gamma * drawn[share.rows(len(noise))]

    def state(self) -> Tensor:
        """Return the state of the generator."""
        return self._generator.get_state()

    def restore(self, state: Tensor) -> None:
        """Restore a state returned by :meth:`state`."""
        self._generator.set_state(state.cpu())

    def _offset_strength(self, latents: Tensor) -> float | Tensor:
        strength: float | Tensor = self._settings.offset_weight
        if self._settings.offset_random_strength:
            strength = strength * self._uniform()
        if self._settings.adaptive_scale:
            own = latents.float().mean((2, 3), keepdim=True).abs().cpu()
            means = torch.cat(self._processes.gathered(own))
            strength = (strength + self._settings.adaptive_scale * means).clamp_min(0)
        return strength

    def _with_coarse_noise(self, noise: Tensor) -> Tensor:
        height, width = noise.shape[-2:]
        for level in range(self._settings.multires_iterations):
            ratio = (2 + 2 * float(self._uniform())) ** level
            sides = max(1, int(height / ratio)), max(1, int(width / ratio))
            coarse = self._normal((*noise.shape[:2], *sides))
            noise += self._settings.multires_discount**level * functional.interpolate(
                coarse, size=(height, width), mode="bilinear"
            )
            if 1 in sides:
                break
        return noise / noise.std()

    def _normal(self, shape: torch.Size | tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self._generator)

    def _uniform(self) -> Tensor:
        return torch.rand((), generator=self._generator)


def make_noise_source(
    config: TrainConfig, family: Family, processes: Processes = ALONE
) -> NoiseSource:
    """Create the noise source of a configuration."""
    return NoiseSource(
        config.seed,
        make_draw(config, family.timesteps, family.resolution_shift),
        family.timesteps_at,
        NoiseSettings(
            offset_weight=config.offset_noise_weight,
            offset_random_strength=config.offset_noise_random_strength,
            adaptive_scale=config.adaptive_noise_scale,
            multires_iterations=config.multires_noise_iterations,
            multires_discount=config.multires_noise_discount,
            perturbation_weight=config.perturbation_noise_weight,
            input_gamma=config.ip_noise_gamma,
            input_random_strength=config.ip_noise_gamma_random_strength,
        ),
        processes,
    )

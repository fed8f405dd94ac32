r"""Distribution, range and shift of the sampled timesteps.

A noise level u is in [0, 1), where 0 means no noise. The model family converts it to a
timestep. With weight w and bias b (``noising_weight`` and ``noising_bias`` of
OneTrainer):

.. math::
    \text{uniform}:\quad & p(u) = 1 \\
    \text{logit\_normal}:\quad & u = \mathrm{sigmoid}(x),\ x \sim N(b, (1 + w)^2) \\
    \text{heavy\_tail}:\quad & u = 1 - v - w\,(\cos^2(\pi v / 2) - 1 + v) \\
    \text{cos\_map}:\quad & u = 1 - 1 / (\tan(\pi v / 2) + 1) \\
    \text{sigmoid}:\quad & p(u) \propto \mathrm{sigmoid}(w\,(u - b - 1/2)) \\
    \text{inverted\_parabola}:\quad & p(u) \propto \max(0, 2 - w\,(u - b - 1/2)^2)

where v is uniform. The first four are from P. Esser et al., "Scaling Rectified Flow
Transformers for High-Resolution Image Synthesis", 2024, arXiv:2403.03206, section 3.1
(equations 19 to 21). The last two are from OneTrainer.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

if TYPE_CHECKING:
    from ...config import TrainConfig

__all__ = ["DISTRIBUTIONS", "PlaceDraw", "make_draw", "shifted"]

# Number of cells for densities without a closed inverse.
_CELLS = 1000


@dataclasses.dataclass(frozen=True)
class PlaceDraw:
    """Sampler of noise levels with a distribution, range and shift.

    Args:
        levels: number of discrete noise levels of the family, for ``uniform``.
        distribution: name in ``DISTRIBUTIONS``.
        weight: weight w of the distribution.
        bias: bias b of the distribution.
        low: start of the range.
        high: end of the range.
        shift: function that returns the shift s for a height and width of the latents.
    """

    levels: int
    distribution: str = "uniform"
    weight: float = 0.0
    bias: float = 0.0
    low: float = 0.0
    high: float = 1.0
    shift: Callable[[int, int], float] = lambda height, width: 1.0

    def draw(self, latents: Tensor, generator: Generator) -> Tensor:
        """Draw noise levels ``(batch,)`` in [0, 1), in float64 on the CPU."""
        count, height, width = latents.shape[0], latents.shape[-2], latents.shape[-1]
        places = DISTRIBUTIONS[self.distribution](self, count, generator)
        places = self.low + (self.high - self.low) * places
        places = shifted(places, self.shift(height, width))
        # Rounding may give 1, a level beyond the last one.
        return places.clamp(0, 1 - 1e-9)


def make_draw(
    config: TrainConfig, levels: int, dynamic_shift: Callable[[int, int], float]
) -> PlaceDraw:
    """Create the sampler of a configuration.

    Args:
        config: configuration of the run.
        levels: number of discrete noise levels of the family.
        dynamic_shift: function that returns the shift of the family for a height and
            width of the latents.
    """
    fixed = config.timestep_shift
    return PlaceDraw(
        levels=levels,
        distribution=config.resolved_timestep_distribution,
        weight=config.noising_weight,
        bias=config.noising_bias,
        low=config.min_noising_strength,
        high=config.max_noising_strength,
        shift=dynamic_shift
        if config.dynamic_timestep_shifting
        else lambda height, width: fixed,
    )


def shifted(places: Tensor, shift: float) -> Tensor:
    """Return s u / (1 + (s - 1) u), equation 23 of arXiv:2403.03206."""
    return places if shift == 1 else shift * places / (1 + (shift - 1) * places)


def _uniform(draw: PlaceDraw, count: int, generator: Generator) -> Tensor:
    # The center of a discrete level, which the family rounds down to that level.
    level = torch.randint(draw.levels, (count,), generator=generator)
    return (level.double() + 0.5) / draw.levels


def _logit_normal(draw: PlaceDraw, count: int, generator: Generator) -> Tensor:
    # In float64, so that places near 1 do not round to 1.
    normal = torch.randn(count, generator=generator, dtype=torch.float64)
    return (draw.bias + abs(1 + draw.weight) * normal).sigmoid()


def _heavy_tail(draw: PlaceDraw, count: int, generator: Generator) -> Tensor:
    even = torch.rand(count, generator=generator, dtype=torch.float64)
    tail = (math.pi / 2 * even).cos().square() - 1 + even
    return (1 - even - draw.weight * tail).clamp(0, 1)


def _cos_map(draw: PlaceDraw, count: int, generator: Generator) -> Tensor:
    even = torch.rand(count, generator=generator, dtype=torch.float64)
    return 1 - 1 / ((math.pi / 2 * even).tan() + 1)


def _sigmoid(draw: PlaceDraw, count: int, generator: Generator) -> Tensor:
    density = (draw.weight * (_middles() - draw.bias - 0.5)).sigmoid()
    return _from_density(density, count, generator)


def _inverted_parabola(draw: PlaceDraw, count: int, generator: Generator) -> Tensor:
    density = 2 - draw.weight * (_middles() - draw.bias - 0.5).square()
    return _from_density(density.clamp_min(0), count, generator)


def _middles() -> Tensor:
    return (torch.arange(_CELLS, dtype=torch.float64) + 0.5) / _CELLS


def _from_density(density: Tensor, count: int, generator: Generator) -> Tensor:
    # With extreme settings the density may underflow to 0; all levels are then equal.
    density = density if density.sum() > 0 else torch.ones_like(density)
    # Piecewise constant density: a random cell, then a uniform place within it.
    cell = torch.multinomial(density, count, replacement=True, generator=generator)
    within = torch.rand(count, generator=generator, dtype=torch.float64)
    return (cell.double() + within) / _CELLS


DISTRIBUTIONS: dict[str, Callable[[PlaceDraw, int, Generator], Tensor]] = {
    "uniform": _uniform,
    "logit_normal": _logit_normal,
    "heavy_tail": _heavy_tail,
    "cos_map": _cos_map,
    "sigmoid": _sigmoid,
    "inverted_parabola": _inverted_parabola,
}
"""Distributions by their names in configurations. Each returns ``(count,)`` levels."""

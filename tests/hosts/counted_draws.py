"""Random numbers that depend on their order alone, so that they are the same in every
program. Imports only torch, so that it runs in every host's environment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch

__all__ = ["PLACES", "UNIFORM", "CountedDraws", "counted_randn"]

UNIFORM = 0.5
"""What stands for a single uniform draw in [0, 1)."""

PLACES = (0.0505, 0.5005, 0.9005)
"""Uniform draws of a batch, each at the center of one of 1000 levels."""

_RANDN = torch.randn


class CountedDraws:
    """Standard normal numbers; the seed of each draw is its number."""

    def __init__(self) -> None:
        self.drawn: list[torch.Tensor] = []

    def normal(self, *shape: Any, **_: Any) -> torch.Tensor:
        """Draw a tensor of a shape, given as one argument or as several."""
        sides = shape[0] if len(shape) == 1 else shape
        sides = (sides,) if isinstance(sides, int) else tuple(sides)
        generator = torch.Generator().manual_seed(len(self.drawn))
        self.drawn.append(_RANDN(sides, generator=generator))
        return self.drawn[-1].clone()


@contextlib.contextmanager
def counted_randn(draws: CountedDraws | None = None) -> Iterator[CountedDraws]:
    """Let functions of torch and ``random`` draw such numbers."""
    draws = draws or CountedDraws()

    def uniform(*_: Any, **__: Any) -> torch.Tensor:
        return torch.tensor(PLACES)

    def normal(mean: float, std: float, size: Any, **_: Any) -> torch.Tensor:
        return mean + std * draws.normal(size)

    def integers(high: int, size: Any, **_: Any) -> torch.Tensor:
        return (torch.tensor(PLACES) * high).long()

    with (
        mock.patch.object(torch, "randn", draws.normal),
        mock.patch.object(torch, "randn_like", lambda x, **_: draws.normal(x.shape)),
        mock.patch.object(torch, "rand", uniform),
        mock.patch.object(torch, "normal", normal),
        mock.patch.object(torch, "randint", integers),
        mock.patch("random.random", return_value=UNIFORM),
    ):
        yield draws

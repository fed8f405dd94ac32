"""Random numbers that depend on their order alone, so that they are the same in every
program. Imports only torch, so that it runs in every host's environment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch

__all__ = ["UNIFORM", "CountedDraws", "counted_randn"]

UNIFORM = 0.5
"""What stands for every uniform draw in [0, 1)."""

_RANDN = torch.randn


class CountedDraws:
    """Standard normal numbers; the seed of each draw is its number."""

    def __init__(self) -> None:
        self.drawn: list[torch.Tensor] = []

    def normal(self, *shape: Any, **_: Any) -> torch.Tensor:
        """Draw a tensor of a shape, given as one argument or as several."""
        sides = shape[0] if len(shape) == 1 else shape
        generator = torch.Generator().manual_seed(len(self.drawn))
        self.drawn.append(_RANDN(tuple(sides), generator=generator))
        return self.drawn[-1].clone()


@contextlib.contextmanager
def counted_randn() -> Iterator[CountedDraws]:
    """Let ``torch.randn``, ``torch.randn_like`` and ``random`` draw such numbers."""
    draws = CountedDraws()
    with (
        mock.patch.object(torch, "randn", draws.normal),
        mock.patch.object(torch, "randn_like", lambda x, **_: draws.normal(x.shape)),
        mock.patch("random.random", return_value=UNIFORM),
    ):
        yield draws

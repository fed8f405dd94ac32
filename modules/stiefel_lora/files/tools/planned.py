"""A LoRA file to be written, whose factors are computed layer by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from ..weights import LoraFactors
from .lora_file import LoraFile, LoraLayer

__all__ = ["Planned", "announced"]


@dataclasses.dataclass(frozen=True, eq=False)
class Planned:
    """All of a file but the numbers of its factors.

    Memory holds the factors of one layer at a time, so that a result needs no more than
    its inputs.
    """

    file: LoraFile
    """Its factors may be shapes alone (:func:`announced`)."""

    factors: Callable[[LoraLayer], LoraFactors]
    """Factors of a layer of ``file``, computed at each call."""

    @classmethod
    def of(cls, file: LoraFile) -> Planned:
        """A file as it is in memory."""
        return cls(file, lambda layer: layer.factors)

    def in_memory(self) -> LoraFile:
        """The same file with all of its factors."""
        layers = [
            dataclasses.replace(layer, factors=self.factors(layer))
            for layer in self.file.layers
        ]
        return dataclasses.replace(self.file, layers=tuple(layers))


def announced(
    up: tuple[int, ...], down: tuple[int, ...], alpha: float, dtype: torch.dtype
) -> LoraFactors:
    """Shapes and alpha of factors that do not exist yet, on the meta device."""
    return LoraFactors(
        up=torch.empty(up, dtype=dtype, device="meta"),
        down=torch.empty(down, dtype=dtype, device="meta"),
        alpha=alpha,
    )

"""LoRA file whose factors are computed when it is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from ..weights import LoraFactors
from .lora_file import LoraFile, LoraLayer

__all__ = ["Planned", "announced"]


@dataclasses.dataclass(frozen=True, eq=False)
class Planned:
    """LoRA file whose factors are computed on demand.

    Only the factors of one layer are in memory at a time.
    """

    file: LoraFile
    """Layers and metadata. The factors can be meta tensors (see :func:`announced`)."""

    factors: Callable[[LoraLayer], LoraFactors]
    """Function that computes the factors of a layer of ``file``."""

    @classmethod
    def of(cls, file: LoraFile) -> Planned:
        """Create a plan for a file whose factors are in memory."""
        return cls(file, lambda layer: layer.factors)

    def in_memory(self) -> LoraFile:
        """Return the file with all factors computed."""
        layers = [
            dataclasses.replace(layer, factors=self.factors(layer))
            for layer in self.file.layers
        ]
        return dataclasses.replace(self.file, layers=tuple(layers))


def announced(
    up: tuple[int, ...], down: tuple[int, ...], alpha: float, dtype: torch.dtype
) -> LoraFactors:
    """Create factors on the meta device, which only have shapes, dtype and alpha."""
    return LoraFactors(
        up=torch.empty(up, dtype=dtype, device="meta"),
        down=torch.empty(down, dtype=dtype, device="meta"),
        alpha=alpha,
    )

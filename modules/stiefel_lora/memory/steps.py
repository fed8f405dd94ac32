"""Types for the operations of a model, used to estimate its memory.

A model is a sequence of operations (steps) and units. Gradient checkpointing recomputes
one unit at a time. ``places`` is the number of positions of an image in an operation:
tokens, or pixels of a feature map. This module does not import torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = [
    "Architecture",
    "Kept",
    "Layer",
    "Norm",
    "Step",
    "Table",
    "Unit",
    "layers_of",
    "steps_of",
]


@dataclasses.dataclass(frozen=True)
class Layer:
    """Linear layer or convolution.

    Attributes:
        name: name of the layer in diffusers.
        outputs: number of rows of the weight.
        inputs: number of columns of the weight, which is ``channels * kernel ** 2`` for
            a convolution.
        places: number of output positions per image.
        kernel: kernel size of a convolution, or 0 for a linear layer.
        bias: whether the layer has a bias.
        shares: whether an earlier operation has the same input.
        stride: stride of a convolution.
    """

    name: str
    outputs: int
    inputs: int
    places: int
    kernel: int = 0
    bias: bool = True
    shares: bool = False
    stride: int = 1

    @property
    def parameters(self) -> int:
        """Return the number of parameters."""
        return self.outputs * self.inputs + self.outputs * self.bias

    @property
    def input_numbers(self) -> int:
        """Return the number of input elements per image."""
        channels = self.inputs // max(self.kernel, 1) ** 2
        return channels * self.places * self.stride**2


@dataclasses.dataclass(frozen=True)
class Norm:
    """Normalization layer, which stores its input for the backward pass."""

    width: int
    places: int
    parameters: int
    exact: bool = True
    """Whether the input is stored in float32 with mixed precision."""


@dataclasses.dataclass(frozen=True)
class Kept:
    """Another operation that stores elements for the backward pass."""

    numbers: int
    exact: bool = False
    """Whether they are stored in float32 with mixed precision."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Embedding table, which stores nothing for the backward pass."""

    parameters: int


Step = Layer | Norm | Kept | Table


@dataclasses.dataclass(frozen=True)
class Unit:
    """Unit of gradient checkpointing: its input is stored, and all else is recomputed.

    Attributes:
        inputs: number of input elements per image.
        steps: operations in the unit.
        repeated: whether it is one of the blocks whose linear layers are quantized.
    """

    inputs: int
    steps: tuple[Step, ...]
    repeated: bool = True


def steps_of(model: Sequence[Step | Unit]) -> Iterator[Step]:
    """Yield all operations in order, including those in units."""
    for part in model:
        yield from part.steps if isinstance(part, Unit) else (part,)


def layers_of(model: Sequence[Step | Unit]) -> dict[str, Layer]:
    """Return all layers by name, in order."""
    return {step.name: step for step in steps_of(model) if isinstance(step, Layer)}


Settings = Mapping[str, Any]
"""Content of ``config.json`` of a denoiser."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Memory-related properties of a denoiser architecture."""

    walk: Callable[[TrainConfig, Settings, int], list[Step | Unit]]
    """Function that lists the operations of the denoiser for a given latent size."""

    caption_numbers: Callable[[TrainConfig, Settings], int]
    """Function that returns the number of elements of an encoded caption."""

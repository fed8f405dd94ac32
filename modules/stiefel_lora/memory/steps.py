"""What a denoiser computes, step by step, as far as memory goes; no torch.

An architecture is a sequence of steps and of units, the pieces that gradient
checkpointing computes again as a whole. ``places`` counts the positions of one image
that a step works on: tokens, or pixels of a feature map.
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
    """A linear layer or convolution.

    Attributes:
        name: as in diffusers.
        outputs: rows of its weight.
        inputs: columns of its weight, of a convolution ``channels * kernel ** 2``.
        places: outputs of one image, without the channels.
        kernel: side of a convolution's kernel, 0 for a linear layer.
        bias: whether it has one.
        shares: whether a step before reads the same input.
        stride: of a convolution.
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
        """Numbers in weight and bias."""
        return self.outputs * self.inputs + self.outputs * self.bias

    @property
    def input_numbers(self) -> int:
        """Numbers that it reads for one image."""
        channels = self.inputs // max(self.kernel, 1) ** 2
        return channels * self.places * self.stride**2


@dataclasses.dataclass(frozen=True)
class Norm:
    """A normalization: it keeps its input for the backward pass."""

    width: int
    places: int
    parameters: int
    exact: bool = True
    """Computed in float32 under mixed precision."""


@dataclasses.dataclass(frozen=True)
class Kept:
    """Numbers of one image that some other function keeps for the backward pass."""

    numbers: int
    exact: bool = False
    """In float32 under mixed precision."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Vectors that are looked up: the first step, which keeps nothing."""

    parameters: int


Step = Layer | Norm | Kept | Table


@dataclasses.dataclass(frozen=True)
class Unit:
    """What gradient checkpointing keeps the input of and computes again.

    Attributes:
        inputs: numbers of one image in that input.
        steps: what it computes.
        repeated: whether it is one of the blocks whose linear layers are quantized.
    """

    inputs: int
    steps: tuple[Step, ...]
    repeated: bool = True


def steps_of(model: Sequence[Step | Unit]) -> Iterator[Step]:
    """All steps, those inside units too, in order."""
    for part in model:
        yield from part.steps if isinstance(part, Unit) else (part,)


def layers_of(model: Sequence[Step | Unit]) -> dict[str, Layer]:
    """All layers by name, in order."""
    return {step.name: step for step in steps_of(model) if isinstance(step, Layer)}


Settings = Mapping[str, Any]
"""``config.json`` of a denoiser."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A kind of denoiser, as far as memory goes; families name theirs."""

    walk: Callable[[TrainConfig, Settings, int], list[Step | Unit]]
    """The steps of the denoiser, for latents of this side."""

    caption_numbers: Callable[[TrainConfig, Settings], int]
    """Numbers of one encoded caption."""

"""Steps of a denoiser, as far as they matter for memory; no torch.

An architecture is a sequence of steps and units; gradient checkpointing recomputes a
unit as a whole. ``places`` is the number of positions of one image in a step: tokens,
or pixels of a feature map.
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
        name: name in diffusers.
        outputs: rows of its weight.
        inputs: columns of its weight; ``channels * kernel ** 2`` for a convolution.
        places: output positions of one image.
        kernel: side of a convolution's kernel, 0 for a linear layer.
        bias: whether it has one.
        shares: whether an earlier step has the same input.
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
        """Numbers in weight and bias."""
        return self.outputs * self.inputs + self.outputs * self.bias

    @property
    def input_numbers(self) -> int:
        """Size of its input for one image."""
        channels = self.inputs // max(self.kernel, 1) ** 2
        return channels * self.places * self.stride**2


@dataclasses.dataclass(frozen=True)
class Norm:
    """A normalization, which stores its input for the backward pass."""

    width: int
    places: int
    parameters: int
    exact: bool = True
    """Computed in float32 with mixed precision."""


@dataclasses.dataclass(frozen=True)
class Kept:
    """Numbers per image that another function stores for the backward pass."""

    numbers: int
    exact: bool = False
    """In float32 with mixed precision."""


@dataclasses.dataclass(frozen=True)
class Table:
    """An embedding table: the first step, which stores nothing."""

    parameters: int


Step = Layer | Norm | Kept | Table


@dataclasses.dataclass(frozen=True)
class Unit:
    """A unit of gradient checkpointing: its input is stored, the rest recomputed.

    Attributes:
        inputs: size of that input for one image.
        steps: steps inside.
        repeated: whether it is one of the blocks whose linear layers are quantized.
    """

    inputs: int
    steps: tuple[Step, ...]
    repeated: bool = True


def steps_of(model: Sequence[Step | Unit]) -> Iterator[Step]:
    """Yield all steps in order, including those inside units."""
    for part in model:
        yield from part.steps if isinstance(part, Unit) else (part,)


def layers_of(model: Sequence[Step | Unit]) -> dict[str, Layer]:
    """Return all layers by name, in order."""
    return {step.name: step for step in steps_of(model) if isinstance(step, Layer)}


Settings = Mapping[str, Any]
"""``config.json`` of a denoiser."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A kind of denoiser, as far as it matters for memory. Families refer to theirs."""

    walk: Callable[[TrainConfig, Settings, int], list[Step | Unit]]
    """The steps of the denoiser, for latents of this side."""

    caption_numbers: Callable[[TrainConfig, Settings], int]
    """Numbers of one encoded caption."""

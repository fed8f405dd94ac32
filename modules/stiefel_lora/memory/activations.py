"""Bytes that the forward pass stores for the backward pass.

A frozen layer stores nothing: the gradient of its input only needs its weight. For the
backward pass, these are stored:

* by a LoRA: its input, and the r numbers between A and B for each position;
* by normalizations and activation functions: their input;
* by attention: query, key, value and result, as in the kernels of SDPA, flash and
  xformers, which never store the matrix of all pairs.

With mixed precision most of it is in ``train_dtype``, the inputs of normalizations in
float32, and a LoRA stores its own copy even if several layers share an input. Layers
before the first LoRA store nothing; a trained text encoder comes before every layer
that uses its output. Gradient checkpointing only stores the inputs of the units, and
temporarily all of the largest unit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence

from .steps import Layer, Norm, Step, Table, Unit

__all__ = ["Kind", "activation_bytes"]

EXACT = 4


@dataclasses.dataclass(frozen=True)
class Kind:
    """Trained layers and training settings.

    Attributes:
        targets: names of the layers with a LoRA, and its rank.
        batch: images that go through the model together.
        width: bytes per number in ``train_dtype``.
        checkpointing: whether units are recomputed.
        dora: whether row magnitudes are trained, too.
        conditioned: names of the layers that use the output of trained text encoders.
    """

    targets: Mapping[str, int]
    batch: int
    width: int
    checkpointing: bool
    dora: bool = False
    conditioned: Collection[str] = ()


def activation_bytes(model: Sequence[Step | Unit], kind: Kind) -> int:
    """Return the maximum number of bytes that are stored at a time."""
    total, largest, trained = 0, 0, False
    for part in model:
        steps = part.steps if isinstance(part, Unit) else (part,)
        begun = trained
        sizes = []
        for step in steps:
            trained = trained or _begins(step, kind)
            sizes.append(_kept(step, kind) if trained else 0)
        if isinstance(part, Unit) and kind.checkpointing:
            largest = max(largest, sum(sizes))
            total += part.inputs * kind.width * (begun or trained)
        else:
            total += sum(sizes)
    return kind.batch * (total + largest)


def _begins(step: Step, kind: Kind) -> bool:
    """Return whether gradients are needed from this step on."""
    return isinstance(step, Layer) and (
        step.name in kind.targets or step.name in kind.conditioned
    )


def _kept(step: Step, kind: Kind) -> int:
    if isinstance(step, Layer):
        return sum(_kept_by_lora(step, kind)) if step.name in kind.targets else 0
    if isinstance(step, Table):
        return 0
    numbers = step.width * step.places if isinstance(step, Norm) else step.numbers
    return numbers * (EXACT if step.exact else kind.width)


def _kept_by_lora(layer: Layer, kind: Kind) -> Iterator[int]:
    yield kind.targets[layer.name] * layer.places * kind.width
    # In float32 there is no cast, so several layers share one tensor.
    if not (layer.shares and kind.width == EXACT):
        yield layer.input_numbers * kind.width
    if kind.dora:
        yield 2 * layer.outputs * layer.places * kind.width

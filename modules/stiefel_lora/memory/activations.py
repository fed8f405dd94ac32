"""What the backward pass needs of the forward pass, in bytes.

A frozen layer keeps nothing: its input's gradient needs its weight alone. For the
backward pass are kept

* by a LoRA: its input, and the r numbers between A and B for each position;
* by normalizations and activation functions: their input;
* by an attention: query, key, value and result, as the kernels of SDPA, flash and
  xformers do, which never hold the matrix of all pairs.

Under mixed precision most of it is in ``train_dtype``, the inputs of normalizations in
float32, and a LoRA keeps a copy of its own even where several layers read one input.
What lies before the first LoRA keeps nothing; a text encoder that is trained is before
all that reads what it says. Gradient checkpointing keeps the inputs
of the units alone, and for a moment all of the largest unit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence

from .steps import Layer, Norm, Step, Table, Unit

__all__ = ["Kind", "activation_bytes"]

EXACT = 4


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is trained, and how.

    Attributes:
        targets: names of the layers that have a LoRA, with its rank.
        batch: images that go through the model together.
        width: bytes of a number in ``train_dtype``.
        checkpointing: whether units are computed again.
        dora: whether the length of each row is trained too.
        told: names of the layers that read what trained text encoders say.
    """

    targets: Mapping[str, int]
    batch: int
    width: int
    checkpointing: bool
    dora: bool = False
    told: Collection[str] = ()


def activation_bytes(model: Sequence[Step | Unit], kind: Kind) -> int:
    """Largest number of bytes that are kept at a time."""
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
        step.name in kind.targets or step.name in kind.told
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
    # In float32 nothing is converted, so several layers keep one tensor.
    if not (layer.shares and kind.width == EXACT):
        yield layer.input_numbers * kind.width
    if kind.dora:
        yield 2 * layer.outputs * layer.places * kind.width

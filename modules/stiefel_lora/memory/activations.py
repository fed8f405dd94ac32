"""Estimate of the activation memory: tensors that are stored for the backward pass.

Frozen linear layers store nothing, because the gradient of their input only requires
their weight. The following tensors are stored:

* LoRA: the input, and the r values between A and B for each position;
* normalizations and activation functions: the input;
* attention: query, key, value and output, as in SDPA, flash attention and xformers,
  which do not store the attention matrix.

With mixed precision, most of these are in ``train_dtype``. Inputs of normalizations are
in float32. A LoRA stores a copy of its input, even if several layers have the same
input. Layers before the first LoRA store nothing. Trained text encoders come before all
layers that use their output. With gradient checkpointing, the inputs of all units are
stored, and all tensors of one unit at a time.
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
        targets: ranks of the layers with a LoRA, by name.
        batch: batch size.
        width: bytes per element in ``train_dtype``.
        checkpointing: whether gradient checkpointing is enabled.
        dora: whether DoRA magnitudes are trained.
        conditioned: names of the layers that use the output of trained text encoders.
    """

    targets: Mapping[str, int]
    batch: int
    width: int
    checkpointing: bool
    dora: bool = False
    conditioned: Collection[str] = ()


def activation_bytes(model: Sequence[Step | Unit], kind: Kind) -> int:
    """Return the peak memory of stored activations in bytes."""
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

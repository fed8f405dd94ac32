"""Memory of the optimizer state, measured with small optimizers.

A pair of each shape in the model is trained for a few steps. The size of its state is
multiplied by the number of pairs.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..config.optimizer import ForeignOptimizer
from ..optim.alpha import ALPHA_IS_RANK
from ..optim.engine.stacking import CHUNK_ELEMENTS
from ..optim.factory import create_optimizer
from ..optim.foreign import create_foreign

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["state_bytes", "work_bytes"]

Shape = tuple[int, int, int]
"""Outputs, inputs and rank."""
# A rule holds about eight stacks at a time (see optim.engine.stacking).
STACKS = 8

_measured: dict[tuple[str, int, int, int], int] = {}


def state_bytes(config: TrainConfig, shapes: Iterable[Shape]) -> int:
    """Return the size of the optimizer state in bytes.

    Args:
        config: configuration with the optimizer and its options.
        shapes: outputs, inputs and ranks of all layers with a LoRA.
    """
    counts = Counter(shapes)
    return sum(
        count * _state_of_pair(config, *shape) for shape, count in counts.items()
    )


def work_bytes(config: TrainConfig, shapes: Iterable[Shape]) -> int:
    """Return the peak memory in bytes that a step allocates temporarily."""
    entry = config.optimizer.method
    if entry is None or entry.start == "lora":
        return 0
    largest = max(
        count * rank * (outputs + inputs)
        for (outputs, inputs, rank), count in Counter(shapes).items()
    )
    return STACKS * 4 * min(CHUNK_ELEMENTS, largest)


def _state_of_pair(config: TrainConfig, outputs: int, inputs: int, rank: int) -> int:
    """Return the state size of one pair. The result is cached."""
    key = (repr(config.optimizer), outputs, inputs, rank)
    if key not in _measured:
        _measured[key] = _measure(config, outputs, inputs, rank)
    return _measured[key]


def _measure(config: TrainConfig, outputs: int, inputs: int, rank: int) -> int:
    generator = torch.Generator().manual_seed(0)
    up = nn.Parameter(
        torch.linalg.qr(torch.randn(outputs, rank, generator=generator))[0]
    )
    down = nn.Parameter(torch.randn(rank, inputs, generator=generator))
    named = [("layer.lora_B.weight", up), ("layer.lora_A.weight", down)]
    optimizer = _make(config, named)
    # Includes state that a method creates at its second step.
    for _ in range(2):
        for parameter in (up, down):
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )


def _make(
    config: TrainConfig, named: list[tuple[str, nn.Parameter]]
) -> torch.optim.Optimizer:
    if not isinstance(config.optimizer, ForeignOptimizer):
        group = {"params": named, ALPHA_IS_RANK: True}
        return create_optimizer(
            config.optimizer.name,
            [group],
            lr=config.learning_rate,
            **config.optimizer.arguments(),
        )
    # Some classes print when they are created.
    with contextlib.redirect_stdout(io.StringIO()):
        return create_foreign(
            config.optimizer.load(),
            config.optimizer.source,
            [tensor for _, tensor in named],
            lr=config.learning_rate,
            options=config.optimizer.keywords(),
        )

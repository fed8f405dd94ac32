r"""Moving average of the LoRA (EMA), itself an ordinary LoRA with orthonormal B.

After an update at step t, with decay :math:`d = \min(d_0, (1 + t) / (10 + t))`:

.. math:: \bar B \leftarrow d \bar B + (1 - d) B R,\quad
          \bar A \leftarrow d \bar A + (1 - d) R^T A,\quad
          R = \mathrm{msign}(B^T \bar B)

(B, A) and (B R, R^T A) are the same adapter for an orthogonal R. This R brings B
closest to the average (orthogonal Procrustes): for a method that rotates the two
factors against each other, or flips a sign, they would otherwise average to nothing.
The mean of orthonormal matrices is not orthonormal. Where the average is used, (B, A)
:= (Q, R A) with the QR factors of its B, which preserves its product. Methods that
leave B free need neither.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..adapters import lora_parameters
from ..geometry import polar_factor
from ..optim import orthonormalize_
from ..optim.engine.stacking import bucketed
from ..optim.pairs import Pair

__all__ = ["MovingAverage", "decay_at"]


def decay_at(step: int, decay: float) -> float:
    """Decay at a step, smaller at first to forget the start (OneTrainer's warm-up).

    >>> decay_at(0, 0.999)
    0.1
    """
    # At a decay of 0.999, the LoRA of the first steps, close to zero, would otherwise
    # make up more than a third of the average after 1,000 steps.
    return min(decay, (1 + step) / (10 + step))


class MovingAverage:
    """Float32 averages of the trained parameters, updated every few steps.

    Args:
        model: model with the adapter.
        pairs: blocks whose B is kept orthonormal. Empty for other methods.
        decay: d0, fraction of the average that is kept in an update.
        every: number of steps between two updates.
        device: device of the averages.
    """

    def __init__(
        self,
        model: nn.Module,
        pairs: Sequence[Pair],
        *,
        decay: float,
        every: int,
        device: torch.device,
    ) -> None:
        self._model = model
        self._decay = decay
        self._every = every
        self._device = device
        self._trained = {
            name: parameter
            for name, parameter in lora_parameters(model).items()
            if parameter.requires_grad
        }
        names = {id(parameter): name for name, parameter in self._trained.items()}
        self._blocks = [(names[id(p.up)], names[id(p.down)]) for p in pairs]
        self._values = self._copies()

    def state(self) -> dict[str, Tensor]:
        """Return the averages by name, on the CPU."""
        return {n: value.to("cpu", copy=True) for n, value in self._values.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Resume from a result of ``state``. If empty, start from the current LoRA."""
        self._values = self._copies()
        for name, value in state.items():
            self._values[name].copy_(value)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the averages towards the LoRA after ``step`` optimizer steps."""
        if step % self._every:
            return
        share = 1 - decay_at(step, self._decay)
        # Parameters without a pair, such as DoRA magnitudes, are averaged as they are.
        for name, value in self._turned().items():
            self._values[name].lerp_(value.to(self._device), share)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Use the averages in the model temporarily; then restore it to the bit."""
        # Copies, since the parameters are overwritten in place.
        kept = self._copies()
        try:
            self._fill(self._values)
            if self._blocks:
                orthonormalize_(self._model)
            yield
        finally:
            # These writes raise the version counters, so that B is checked again at the
            # next step. That changes nothing: the factors are the same to the bit.
            self._fill(kept)

    def _copies(self) -> dict[str, Tensor]:
        return {
            name: parameter.detach().to(self._device, copy=True)
            for name, parameter in self._trained.items()
        }

    @torch.no_grad()
    def _fill(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self._trained.items():
            parameter.copy_(values[name])

    def _turned(self) -> dict[str, Tensor]:
        """Trained parameters. Constrained blocks are rotated towards their averages."""
        found: dict[str, Tensor] = {
            name: parameter.detach() for name, parameter in self._trained.items()
        }
        # Blocks of one rank are processed in one stack.
        for blocks in bucketed(self._blocks, lambda names: found[names[0]].shape[1]):
            turns = polar_factor(torch.stack([self._overlap(up) for up, _ in blocks]))
            for (up, down), turn in zip(blocks, turns, strict=True):
                b, a = found[up], found[down]
                found[up] = (b.flatten(1) @ turn).view_as(b)
                found[down] = (turn.mT @ a.flatten(1)).view_as(a)
        return found

    def _overlap(self, name: str) -> Tensor:
        b = self._trained[name].detach().flatten(1)
        return b.mT @ self._values[name].to(b.device).flatten(1)

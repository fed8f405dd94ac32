r"""Exponential moving average (EMA) of the LoRA factors.

After an update at step t, with decay :math:`d = \min(d_0, (1 + t) / (10 + t))`:

.. math:: \bar B \leftarrow d \bar B + (1 - d) B R,\quad
          \bar A \leftarrow d \bar A + (1 - d) R^T A,\quad
          R = \mathrm{msign}(B^T \bar B)

(B, A) and (B R, R^T A) are the same adapter for any orthogonal R. This R brings B
closest to the average (orthogonal Procrustes). Without it, the average could become
small if the optimizer rotates both factors or changes the sign of columns.

The mean of orthonormal matrices is not orthonormal. When the average is used, (B, A) is
replaced by (Q, R A) with the QR factors of the averaged B, which does not change the
product. Both are only necessary for methods with an orthonormal B.
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
    """Return the decay at a step, which is smaller at first (warmup as in OneTrainer).

    >>> decay_at(0, 0.999)
    0.1
    """
    # At a decay of 0.999, the LoRA of the first steps, close to zero, would otherwise
    # make up more than a third of the average after 1,000 steps.
    return min(decay, (1 + step) / (10 + step))


class MovingAverage:
    """Exponential moving average of the trained parameters in float32.

    Args:
        model: model with the adapter.
        pairs: pairs with an orthonormal B. Empty for methods without orthonormal B.
        decay: maximum decay d0.
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
        """Load a state returned by :meth:`state`.

        If it is empty, the averages are set to the current parameters.
        """
        self._values = self._copies()
        for name, value in state.items():
            self._values[name].copy_(value)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the averages after ``step`` optimizer steps."""
        if step % self._every:
            return
        share = 1 - decay_at(step, self._decay)
        # Parameters without a pair, such as DoRA magnitudes, are averaged without
        # rotation.
        for name, value in self._turned().items():
            self._values[name].lerp_(value.to(self._device), share)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Use the averages in the model inside a ``with`` block."""
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
        """Yield the trained parameters, with R applied to pairs with orthonormal B."""
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

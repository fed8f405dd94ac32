"""Muon: the polar factor of the momentum as the step of every matrix.

Chosen for a model that is trained for minutes: every direction of a matrix moves from
the first steps on, and the products cost little in bfloat16. (K. Jordan, "Muon: an
optimizer for hidden layers in neural networks", 2024; the length that matches AdamW's
step: J. Liu et al., arXiv:2502.16982, section 2.2.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from stiefel_lora.optim.engine.stacking import bucketed

# Jordan's quintic: after five rounds singular values lie in 0.7 ... 1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
RMS = 0.2


class Muon(torch.optim.Optimizer):
    """Steps of RMS 0.2 lr along the polar factor of the Nesterov momentum.

    Convolutions count as matrices (out, in * height * width).

    Args:
        params: tensors of at least two axes.
        lr: learning rate in AdamW's unit.
        momentum: decay of the mean of gradients.
        weight_decay: decoupled decay, times lr.
        dtype: of the products; bfloat16 is slow where the processor lacks it.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        """Remember the tensors."""
        self._dtype = dtype
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move every tensor; a closure is not called."""
        for group in self.param_groups:
            for bucket in bucketed(group["params"], lambda p: p.shape):
                self._step(bucket, **{k: v for k, v in group.items() if k != "params"})

    def _step(
        self, params: list[Any], lr: float, momentum: float, weight_decay: float
    ) -> None:
        means = [
            self.state[p].setdefault("exp_avg", torch.zeros_like(p)) for p in params
        ]
        grads = [p.grad for p in params]
        torch._foreach_lerp_(means, grads, 1 - momentum)
        ahead = torch._foreach_lerp(means, grads, 1 - momentum)
        stacked = torch.stack([direction.flatten(1) for direction in ahead])
        rows, columns = stacked.shape[1:]
        moves = polar_factors(stacked, self._dtype).float()
        moves *= RMS * max(rows, columns) ** 0.5
        torch._foreach_mul_(params, 1 - lr * weight_decay)
        steps = [m.view_as(p) for m, p in zip(moves, params, strict=True)]
        torch._foreach_add_(params, steps, alpha=-lr)


def polar_factors(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Roughly U V^T of each matrix U S V^T of a stack (K, rows, columns)."""
    wide = matrices.mT if matrices.shape[-2] > matrices.shape[-1] else matrices
    size = wide.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-12)
    found = (wide / size).to(dtype)
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        gram = found @ found.mT
        found = a * found + (b * gram + c * gram @ gram) @ found
    return found.mT if wide is not matrices else found

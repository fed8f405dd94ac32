r"""Trials of StiefelLoRA's step of the product, as a plugin of the package.

The same step as :mod:`stiefel_lora.optim.stiefel_product`, written with the tall
matrices themselves instead of one pass of linear combinations, so that each part can be
exchanged. With all options at their defaults both give the same product (tested). What
pays here goes into the package; what does not stays here with its rows, so that nobody
tries it twice.

Options, each 0 or off in the package's own rule:

- ``nesterov``: the direction is that of :math:`G + \mu M` instead of :math:`M`.
- ``softness`` :math:`\kappa`: msign becomes
  :math:`\sqrt{1+\kappa}\,\xi(\xi^T\xi + \kappa\,c I)^{-1/2}`, with :math:`c` by
  ``noise``: ``mean``, the mean :math:`\sigma^2` of :math:`\xi`; ``running``, the
  variance that a running mean of the squared gradients (``beta2``) predicts for a
  momentum of noise alone.
- ``width``: the rate is multiplied by :math:`\sqrt{out/in}`, as Muon's is in several
  trainers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from stiefel_lora import Option, PairOptimizer, Rule, register
from stiefel_lora.geometry import inverse_sqrt, inverse_sqrt_of_retraction, trace
from stiefel_lora.optim import stiefel_product
from stiefel_lora.optim.rule import PairBatch, StateShape

__all__ = ["ProductTrial"]

_OPTIONS = (
    Option("momentum", 0.9, low=0, high=1, high_open=True, doc="Decay of momentum."),
    Option("nesterov", False, doc="Look one step ahead."),
    Option("softness", 0.0, low=0, doc="kappa, share of noise in the core."),
    Option("noise", "mean", type=str, choices=("mean", "running"), doc="What c is."),
    Option("beta2", 0.95, low=0, high=1, high_open=True, doc="Decay of the noise."),
    Option("width", False, doc="Multiply the rate by sqrt(out / in)."),
)


@register(
    label="Product trial",
    summary="The step of the product in exchangeable parts, for the study.",
    default_lr=1e-2,
    alpha_policy="rank",
    start="stiefel",
    options=_OPTIONS,
)
class ProductTrial(PairOptimizer):
    """StiefelLoRA's step of the product with the options of the module."""

    class rule(Rule):
        """One step on stacked pairs."""

        orthonormal_up = True

        def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
            """Momentum as the gradients of the factors, and the noise of a pair."""
            return {"momentum_up": "up", "momentum_down": "down", "noise": "scalar"}

        def update(self, batch: PairBatch) -> None:
            """Move B and A, and carry the momentum to the new point."""
            mu, up, down = batch.numbers["momentum"], batch.up, batch.down
            force_up = mu * batch.state["momentum_up"] + batch.grad_up
            force_down = mu * batch.state["momentum_down"] + batch.grad_down
            look_up, look_down = force_up, force_down
            if batch.choices["nesterov"]:
                look_up = batch.grad_up + mu * force_up
                look_down = batch.grad_down + mu * force_down
            lr = (batch.lr_up * batch.lr_down).sqrt()
            if batch.choices["width"]:
                lr = lr * (up.shape[-2] / down.shape[-1]) ** 0.5
            found = self._direction(batch, lr, look_up, look_down)
            turn = lr * _outside(up, look_up) @ found.turn
            square = turn.mT @ turn
            root = inverse_sqrt_of_retraction(
                torch.eye(square.shape[-1]) + square, stiefel_product.STEEPEST
            )
            step = found.inside @ down + found.along @ look_down
            batch.up = (up - turn) @ root
            batch.down = root @ (down + square @ down - lr * step)
            # xi = X F^T F A + B M_A, seen from the new point.
            tall = _outside(up, force_up) @ found.inverse
            seen = tall @ (down @ batch.down.mT) + up @ (force_down @ batch.down.mT)
            carried = batch.up.mT @ tall @ down + (batch.up.mT @ up) @ force_down
            batch.state = {
                "momentum_up": _outside(batch.up, seen),
                "momentum_down": carried,
                "noise": batch.state["noise"],
            }

        def _direction(
            self, batch: PairBatch, lr: Tensor, force_up: Tensor, force_down: Tensor
        ) -> Any:
            up, down = batch.up, batch.down
            along, whole = up.mT @ force_up, force_up.mT @ force_up
            grams = {
                "size": down @ down.mT,
                "cross": down @ force_down.mT,
                "force": force_down @ force_down.mT,
            }
            core = self._core(batch, grams["force"])
            with mock.patch.object(stiefel_product, "joint_polar_core", core):
                return stiefel_product._direction(
                    whole - along.mT @ along, whole, grams, lr
                )

        def _core(self, batch: PairBatch, force: Tensor) -> Callable[[Tensor], Tensor]:
            kappa = batch.numbers["softness"]
            if not float(kappa.max()):
                return stiefel_product.joint_polar_core
            share: Tensor | float = 1.0
            if batch.choices["noise"] == "running":
                share = self._share(batch, force)

            def core(gram: Tensor) -> Tensor:
                width = gram.shape[-1]
                floor = kappa * share * trace(gram) / width
                damped = gram + floor * torch.eye(width)
                return (1 + kappa).sqrt() * inverse_sqrt(damped, 14)

            return core

        def _share(self, batch: PairBatch, force: Tensor) -> Tensor:
            """Predicted noise of the momentum as a share of its mean sigma^2."""
            beta, mu = batch.numbers["beta2"], batch.numbers["momentum"]
            fresh = trace(batch.grad_down @ batch.grad_down.mT)
            noise = beta * batch.state["noise"] + (1 - beta) * fresh
            batch.state = {**batch.state, "noise": noise}
            steady = noise / (1 - beta**batch.step)
            weight = (1 - mu ** (2 * batch.step)) / (1 - mu**2)
            return (steady * weight / trace(force).clamp_min(1e-30)).clamp_max(100.0)


def _outside(up: Tensor, other: Tensor) -> Tensor:
    return other - up @ (up.mT @ other)

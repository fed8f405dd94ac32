r"""StelLA: :math:`\Delta W = U S V^T` with U and V on Stiefel manifolds.

The pair holds B = U and A = S V^T, so the adapter is an ordinary LoRA. S and V are
state. The chain rule gives their gradients from the pair's own: :math:`G_U = G_B`,
:math:`G_S = G_A V`, :math:`G_V = G_A^T S`. For Y in {U, V}, with D rows, d the median
layer side and ``step`` any Euclidean optimizer:

.. math::
    g_Y &= G_Y - Y G_Y^T Y \\
    \Delta &= \mathrm{step}(g_Y)\,\sqrt{d/D} \\
    \Delta &\leftarrow \Delta - Y\,\mathrm{sym}(Y^T\Delta) \\
    Y &\leftarrow \mathrm{uf}(Y+\Delta) \quad\text{or}\quad \exp_Y(\Delta)

and S takes the plain step. The factor :math:`\sqrt{d/D}` applies to adam and lion,
whose steps have entries of one size. The paper's d is the model's hidden size, which a
UNet does not have, so d is the median side here.

References:
    "StelLA: Subspace Learning in Low-rank Adaptation using Stiefel Manifold", 2025,
    arXiv:2510.01938, Algorithm 1. Its U, V start random and S = I
    (:func:`~stiefel_lora.optim.init.init_stella_`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..geometry import (
    canonical_gradient,
    exponential_map,
    inverse_sqrt,
    orthogonality_error,
    qr_gauge,
    symmetric,
)
from ._moments import BASE_RULES, moment_states
from .gauge import enter_svd_gauge, random_frame
from .groups import Source
from .pair_optimizer import PairOptimizer
from .rule import (
    Core,
    FactorBatch,
    FactorRule,
    PairBatch,
    Role,
    Rule,
    Solver,
    StateShape,
)

__all__ = ["StelLA", "random_right_frame"]

# Largest relative gap between A and S V^T that is attributed to rounding.
_AGREEMENT = 1e-5
_NAMES: dict[str, StateShape] = {"u": "up", "s": "core", "v": "down"}


class StellaUp(FactorRule):
    """U, which is B."""

    look_moves = True

    def look(self, batch: FactorBatch) -> Core:
        """Step along the tangent space. Return the Gram matrix of the new columns."""
        step = BASE_RULES[batch.choices["base_rule"]]
        move = step(batch, "u", canonical_gradient(batch.point, batch.grad))
        batch.point = _moved(batch, batch.point, move)
        return {"gram": batch.point.mT @ batch.point}

    def move(self, batch: FactorBatch, core: Core) -> None:
        """Make the columns orthonormal."""
        batch.point = batch.point @ core["root"]


class StellaDown(FactorRule):
    """S and V, and A = S V^T."""

    moves_state = True
    shared = frozenset({"s", "mean_s", "square_s"})

    def look(self, batch: FactorBatch) -> Core:
        """Move S, step V along its tangent space. Return V's new Gram matrix."""
        s, v, grad = batch.state["s"], batch.state["v"], batch.grad
        step = BASE_RULES[batch.choices["base_rule"]]
        whole = grad @ v.mT
        diagonal = batch.choices["s_form"] == "diagonal"
        move_s = step(batch, "s", _diagonal(whole) if diagonal else whole)
        # The canonical gradient of V, transposed: V^T G_V is whole^T S.
        gradient = torch.baddbmm(s.mT @ grad, whole.mT @ s, v, alpha=-1)
        move_v = step(batch, "v", gradient)
        moved = _moved(batch, v.mT, move_v.mT).mT
        decay = 1 - batch.lr * batch.numbers["weight_decay"]
        batch.state["s"], batch.state["v"] = s * decay - batch.lr * move_s, moved
        return {"gram": moved @ moved.mT}

    def move(self, batch: FactorBatch, core: Core) -> None:
        """Make V orthonormal and write A."""
        v = batch.state["v"] = core["root"] @ batch.state["v"]
        batch.point = batch.state["s"] @ v


class StellaRule(Rule):
    """The update in the module's docstring, in two passes."""

    orthonormal_up = True
    counts_steps = True

    _rules: Mapping[Role, FactorRule] = {"up": StellaUp(), "down": StellaDown()}

    def choices(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Base rule, form of S and retraction select code."""
        return {name: group[name] for name in ("base_rule", "s_form", "retraction")}

    def numbers(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Moments' decay and weight decay."""
        return {k: group[k] for k in ("beta1", "beta2", "eps", "weight_decay")}

    def joint_numbers(self, choices: Mapping[str, Any]) -> tuple[str, ...]:
        """Numbers of the pair. Each factor has its own learning rate."""
        return ("beta1", "beta2", "eps", "weight_decay")

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """S, V^T and the base rule's moments of U, S and V^T."""
        moments = moment_states(choices["base_rule"], _NAMES)
        return {"s": "core", "v": "down", **moments}

    def prepare(self, batch: PairBatch) -> Tensor | None:
        """Factor A into S V^T where the stored S and V do not reproduce it."""
        stored = batch.state["s"] @ batch.state["v"]
        gap = (stored - batch.down).abs().amax((-2, -1))
        size = batch.down.abs().amax((-2, -1))
        loose = orthogonality_error(batch.state["v"].mT) > 1e-4
        for index in torch.nonzero(loose | (gap > _AGREEMENT * size)).flatten():
            _refactor(batch, int(index))
        return None

    def factor_rules(self, choices: Mapping[str, Any]) -> Mapping[Role, FactorRule]:
        """The passes of U, and of S and V."""
        return self._rules

    def solver(self, choices: Mapping[str, Any]) -> Solver | None:
        """Inverse roots for the retractions of all frames in one call."""
        return _solve


def _solve(
    up: Core, down: Core, lr: Tensor, numbers: dict[str, Tensor]
) -> tuple[Core, Core]:
    root_u, root_v = inverse_sqrt(torch.cat([up["gram"], down["gram"]])).chunk(2)
    return {"root": root_u}, {"root": root_v}


def _moved(batch: FactorBatch, point: Tensor, move: Tensor) -> Tensor:
    """Steps (c.4) to (c.6) of a frame ``(K, D, r)``, without the inverse root."""
    step = batch.lr
    if batch.choices["base_rule"] != "sgd":
        step = step * (batch.width / point.shape[-2]) ** 0.5
    # Adam divides entry by entry, which leaves the tangent space, but a retraction
    # needs a tangent step.
    inside = symmetric(point.mT @ move)
    if batch.choices["retraction"] == "exponential":
        return exponential_map(point, step * (point @ inside - move))
    moved = torch.baddbmm(point, point, step * inside)
    if isinstance(step, Tensor):
        return moved.sub_(step * move)
    return moved.sub_(move, alpha=step)


def _refactor(batch: PairBatch, index: int) -> None:
    """Compute S and V of one pair from its A, and reset its moments."""
    down, s, v = batch.down[index], batch.state["s"][index], batch.state["v"][index]
    for name, value in batch.state.items():
        if name not in ("s", "v"):
            value[index].zero_()
    if not down.any():
        v.copy_(random_right_frame(batch.names[index], *down.shape))
        s.zero_()
        return
    if batch.choices["s_form"] == "full":
        q, r = qr_gauge(down.mT.double())
        v.copy_(q.mT)
        s.copy_(r.mT)
    else:
        # A diagonal S needs the basis of B in which the rows of A are orthogonal. If
        # they are already, as at S = I, an SVD would rotate equal singular values.
        sigma = torch.linalg.vector_norm(down.double(), dim=-1)
        right = down.double() / sigma.clamp_min(torch.finfo(down.dtype).tiny)[:, None]
        if orthogonality_error(right.mT) > _AGREEMENT:
            sigma, right = enter_svd_gauge(batch, index)
        v.copy_(right)
        s.copy_(torch.diag(sigma))
    batch.down[index] = s @ v


def random_right_frame(name: str, rank: int, width: int, seed: int = 0) -> Tensor:
    """V^T of a pair, ``(rank, width)``, fixed by its name and the seed."""
    return random_frame(f"{name}.V", width, rank, seed).mT


def _diagonal(matrix: Tensor) -> Tensor:
    return torch.diag_embed(torch.diagonal(matrix, dim1=-2, dim2=-1))


class StelLA(PairOptimizer):
    """Train a LoRA as U S V^T with orthonormal U and V.

    A LoRA that starts with B = 0 or A = 0 starts here with S = 0. The paper's S = I
    changes the model's output at step 0 and is available as
    :func:`~stiefel_lora.optim.init.init_stella_`.

    Args:
        params: model, named parameters, or iterable of parameters or parameter groups
            to optimize.
        lr: learning rate of the base rule, usually 4 to 8 times the learning rate of
            AdamW.
        base_rule: Euclidean optimizer, ``"adam"``, ``"sgd"`` or ``"lion"``. ``"sgd"``
            is heavy-ball momentum, m <- beta1 m + g, without damping, so that steps
            approach 1 / (1 - beta1) times lr. With beta1 = 0, it is plain SGD.
        s_form: ``"full"`` (tables of the paper) or ``"diagonal"`` (released script).
        retraction: ``"polar"`` or ``"exponential"``.
        weight_decay: decoupled weight decay of S (times lr). U and V never decay.
        beta1: decay rate of the running average of the gradient.
        beta2: decay rate of the mean of squares (adam) or of the momentum (lion).
        eps: term that is added to the square root of the second moment for numerical
            stability.

    Raises:
        OptionError: If an option is out of bounds, or B is not in float32 at the first
            step.
        PairingError: If the roles of parameters are ambiguous.
    """

    method = "stella"
    rule = StellaRule()

    def __init__(
        self,
        params: Source,
        lr: float | Tensor = 5e-4,
        *,
        base_rule: str = "adam",
        s_form: str = "full",
        retraction: str = "polar",
        weight_decay: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        options = {
            "base_rule": base_rule,
            "s_form": s_form,
            "retraction": retraction,
            "weight_decay": weight_decay,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
        }
        super().__init__(params, lr, options)

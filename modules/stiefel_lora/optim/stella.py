r"""StelLA: :math:`\Delta W = U S V^T` with U and V on Stiefel manifolds.

The adapter is an ordinary LoRA with B = U and A = S V^T. S and V are part of the
optimizer state. Their gradients are computed from those of B and A by the chain rule:
:math:`G_U = G_B`, :math:`G_S = G_A V`, :math:`G_V = G_A^T S`. For Y in {U, V} with D
rows, the median d of the number of inputs and outputs of all layers, and ``step`` of
any Euclidean optimizer:

.. math::
    g_Y &= G_Y - Y G_Y^T Y \\
    \Delta &= \mathrm{step}(g_Y)\,\sqrt{d/D} \\
    \Delta &\leftarrow \Delta - Y\,\mathrm{sym}(Y^T\Delta) \\
    Y &\leftarrow \mathrm{uf}(Y+\Delta) \quad\text{or}\quad \exp_Y(\Delta)

and S is updated with ``step`` directly. With SGD and the polar retraction, the
Frobenius norm of :math:`\Delta` is limited to 10. The factor :math:`\sqrt{d/D}` is only
used with adam and lion, for which all entries of the update have a similar size. In the
paper, d is the hidden size of the model. A UNet has no single hidden size, so the
median is used here.

References:
    "StelLA: Subspace Learning in Low-rank Adaptation using Stiefel Manifold", 2025,
    arXiv:2510.01938, Algorithm 1. Its U, V start random and S = I
    (:func:`~stiefel_lora.optim.init.init_stella_`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..geometry import (
    canonical_gradient,
    exponential_map,
    gram_of,
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
# Longest step with base_rule "sgd" and the polar retraction, in Frobenius norm. It
# turns a direction by 84 degrees, and the eigenvalues of its Gram matrix are within the
# range of inverse_sqrt. Beyond it, U and V would lose orthonormality.
_LONGEST = 10.0
_NAMES: dict[str, StateShape] = {"u": "up", "s": "core", "v": "down"}


class StellaUp(FactorRule):
    """Update rule of U, which is B."""

    look_moves = True

    def look(self, batch: FactorBatch) -> Core:
        """Update U in its tangent space. Return the Gram matrix of the new columns."""
        step = BASE_RULES[batch.choices["base_rule"]]
        move = step(batch, "u", canonical_gradient(batch.point, batch.grad))
        batch.point = _moved(batch, batch.point, move)
        return {"gram": gram_of(batch.point)}

    def move(self, batch: FactorBatch, core: Core) -> None:
        """Orthonormalize the columns of U."""
        batch.point = batch.point @ core["root"]


class StellaDown(FactorRule):
    """Update rule of S and V, where A = S V^T."""

    moves_state = True
    shared = frozenset({"s", "mean_s", "square_s"})

    def look(self, batch: FactorBatch) -> Core:
        """Update S, and V in its tangent space. Return the new Gram matrix of V."""
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
        """Orthonormalize V and compute A."""
        v = batch.state["v"] = core["root"] @ batch.state["v"]
        batch.point = batch.state["s"] @ v


class StellaRule(Rule):
    """Update rule in the docstring of this module, in two passes."""

    orthonormal_up = True
    counts_steps = True
    # S takes the scale of A, and the gradients of U and V contain S.
    scale_powers = MappingProxyType(
        {"s": 1, "mean_u": 1, "square_u": 2, "mean_v": 1, "square_v": 2}
    )

    _rules: Mapping[Role, FactorRule] = {"up": StellaUp(), "down": StellaDown()}

    def choices(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that select code: base rule, form of S and retraction."""
        return {name: group[name] for name in ("base_rule", "s_form", "retraction")}

    def numbers(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Return beta1, beta2, eps and weight decay."""
        return {k: group[k] for k in ("beta1", "beta2", "eps", "weight_decay")}

    def joint_numbers(self, choices: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the numeric options of the solver."""
        return ("beta1", "beta2", "eps", "weight_decay")

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """Return the state shapes: S, V^T, and the moments of U, S and V^T."""
        moments = moment_states(choices["base_rule"], _NAMES)
        return {"s": "core", "v": "down", **moments}

    def prepare(self, batch: PairBatch) -> Tensor | None:
        """Factor A into S V^T if the stored S and V do not match it."""
        stored = batch.state["s"] @ batch.state["v"]
        gap = (stored - batch.down).abs().amax((-2, -1))
        size = batch.down.abs().amax((-2, -1))
        loose = orthogonality_error(batch.state["v"].mT) > 1e-4
        for index in torch.nonzero(loose | (gap > _AGREEMENT * size)).flatten():
            _refactor(batch, int(index))
        return None

    def factor_rules(self, choices: Mapping[str, Any]) -> Mapping[Role, FactorRule]:
        """Return the rules of B and A."""
        return self._rules

    def solver(self, choices: Mapping[str, Any]) -> Solver | None:
        """Return the solver, which computes the retractions of U and V in one call."""
        return _solve


def _solve(
    up: Core, down: Core, lr: Tensor, numbers: dict[str, Tensor]
) -> tuple[Core, Core]:
    root_u, root_v = inverse_sqrt(torch.cat([up["gram"], down["gram"]])).chunk(2)
    return {"root": root_u}, {"root": root_v}


def _moved(batch: FactorBatch, point: Tensor, move: Tensor) -> Tensor:
    """Apply lines (c.4) to (c.6) of the algorithm, except for the inverse root."""
    step = batch.lr
    if batch.choices["base_rule"] != "sgd":
        step = step * (batch.width / point.shape[-2]) ** 0.5
    elif batch.choices["retraction"] == "polar":
        # Without a second moment, nothing else bounds the step.
        length = step * torch.linalg.matrix_norm(move, keepdim=True)
        step = step * (_LONGEST / length.clamp_min(_LONGEST))
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
    """Return a random V^T, ``(rank, width)``, seeded by the name of the layer."""
    return random_frame(f"{name}.V", width, rank, seed).mT


def _diagonal(matrix: Tensor) -> Tensor:
    return torch.diag_embed(torch.diagonal(matrix, dim1=-2, dim2=-1))


class StelLA(PairOptimizer):
    """StelLA optimizer: train a LoRA as U S V^T with orthonormal U and V.

    If B = 0 or A = 0 at the start, S is 0. The paper starts with S = I, which changes
    the output of the model, see :func:`~stiefel_lora.optim.init.init_stella_`.

    Args:
        params: model, named parameters, or iterable of parameters or parameter groups
            to optimize.
        lr: learning rate of the base rule, usually 4 to 8 times the learning rate of
            AdamW.
        base_rule: Euclidean optimizer, ``"adam"``, ``"sgd"`` or ``"lion"``. ``"sgd"``
            is heavy-ball momentum, m <- beta1 m + g, without damping, so that the
            effective learning rate is lr / (1 - beta1). With beta1 = 0, it is plain
            SGD.
        s_form: form of S: ``"full"`` (as in the tables of the paper) or ``"diagonal"``
            (as in its released code).
        retraction: retraction to the manifold: ``"polar"`` or ``"exponential"``.
        weight_decay: decoupled weight decay of S, multiplied by lr. U and V are not
            decayed.
        beta1: decay rate of the running average of the gradient.
        beta2: decay rate of the running average of the squared gradient (adam) or of
            the momentum (lion).
        eps: term that is added to the square root of the second moment for numerical
            stability.

    Raises:
        OptionError: If an option is out of bounds, or B is not in float32 at the first
            step.
        PairingError: If parameters cannot be assigned to A and B unambiguously.
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

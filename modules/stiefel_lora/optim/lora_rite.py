r"""LoRA-RITE: adaptive steps that do not depend on how B A is factored.

Thin QR :math:`B = U_B R_B`, :math:`A^T = U_A R_A`. For the factor B (for A by symmetry,
with :math:`\bar G_A = G_A^T R_B^{-1}` and the roles exchanged), t counted from 0:

.. math::
    \bar G &= G_B R_A^{-1}, \qquad P = U_{A,t}^T U_{A,t-1} \\
    V &\leftarrow \hat\beta_2 P V P^T + (1-\hat\beta_2)\,\bar G^T\bar G/\mathrm{rows} \\
    \rho &\leftarrow \hat\beta_2\,(\rho + \min(\max_i\,(\lambda_i(V_{t-1}) -
        \lambda_i(P V_{t-1} P^T))_+,\; (\mathrm{tr}\,V_{t-1} -
        \mathrm{tr}\,P V_{t-1} P^T)_+)) \\
    \bar S &= \bar G\,Q\,\mathrm{diag}(1/(\sqrt{\lambda+\rho}+\epsilon))\,Q^T,
        \quad V = Q\,\mathrm{diag}(\lambda)\,Q^T \\
    \bar M &\leftarrow \hat\beta_1 \bar M P^T + (1-\hat\beta_1) \bar S \\
    B &\leftarrow B - \eta\,(\bar M R_A^{-T} + \lambda_{wd} B)

with :math:`\hat\beta = \beta(1-\beta^t)/(1-\beta^{t+1})`. Before that a factor whose
:math:`\bar G` has an RMS above ``skip_above`` is skipped, and all :math:`\bar G` are
scaled to a joint Frobenius norm of at most ``clip_norm``.

One thing is added to the published rule. Both moves are safe to first order in the
product, but they also interact: with :math:`\Delta B\,\Delta A = \eta^2\,\bar M_B C
\bar M_A^T` and :math:`C = R_A^{-T} R_B^{-1} = Q\,\mathrm{diag}(c)\,P^T` a direction in
which B A is far below a step gets :math:`\kappa_i = \eta\,(\mathrm{rows}_A
\mathrm{rows}_B)^{1/4} c_i` times a step. After B = 0 and one low-rank gradient, such
directions are rounding errors, 1e5 times too short. So :math:`\bar M_B Q_i` and
:math:`\bar M_A P_i` are multiplied by :math:`\min(1, 4 / \kappa_i)^{1/2}`, which does
not depend on the basis and is 1 where the product is larger than a quarter of a step.

Eigenvalues are clamped at 0: in the reference code, a slightly negative one makes the
step 0, which freezes pairs whose gradient has a rank below r.

References:
    J.-N. Yen et al., "LoRA Done RITE: Robust Invariant Transformation Equilibration for
    LoRA Optimization", 2024, arXiv:2410.20625.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..geometry import pseudo_inverse, qr_gauge, symmetric, thin_svd
from .groups import Source
from .pair_optimizer import PairOptimizer
from .rule import PairBatch, Rule, StateShape

__all__ = ["LoRARITE"]

# Singular values of R below this share of the largest count as 0, as in the reference.
_RCOND = 1e-6
# Largest kappa_i of a direction, see the module's docstring.
_LONGEST_CROSS = 4.0
_SIDES = ("up", "down")


@dataclasses.dataclass
class _Side:
    """One factor in the other factor's basis.

    Attributes:
        gradient: unmagnified gradient, ``(K, rows, r)``.
        basis: U of the other factor, ``(K, columns, r)``.
        inverse: pseudo-inverse of the other factor's R, ``(K, r, r)``.
    """

    gradient: Tensor
    basis: Tensor
    inverse: Tensor


class RiteRule(Rule):
    """The update in the module's docstring, on stacked pairs."""

    factorizes = True

    def choices(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Escape mass is compiled in or out."""
        return {"escape": group["escape"]}

    def numbers(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Decays, guards and weight decay; 0 turns a guard off."""
        names = ("beta1", "beta2", "eps", "clip_norm", "skip_above", "weight_decay")
        return {name: group[name] for name in names}

    def joint_numbers(self, choices: Mapping[str, Any]) -> tuple[str, ...]:
        """Numbers of the pair; each factor has its own learning rate."""
        return ("beta1", "beta2", "eps", "clip_norm", "skip_above", "weight_decay")

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """First moments and old bases like the factors, r x r second moments."""
        shapes: dict[str, StateShape] = {
            "mean_up": "up",
            "mean_down": "down",
            "basis_up": "up",
            "basis_down": "down",
            "square_up": "core",
            "square_down": "core",
        }
        if choices["escape"]:
            shapes |= {"escape_up": "scalar", "escape_down": "scalar"}
        return shapes

    def measures(self, group: Mapping[str, Any]) -> bool:
        """The joint norm is needed where it is clipped."""
        return group["clip_norm"] > 0

    def measure(self, batch: PairBatch) -> Tensor:
        """Squared Frobenius norm of both unmagnified gradients."""
        up, down = (side.gradient.square() for side in _unmagnified(batch))
        return up.sum((-2, -1), keepdim=True) + down.sum((-2, -1), keepdim=True)

    def update(self, batch: PairBatch) -> None:
        """Step both factors from the bases of the old pair."""
        sides = _unmagnified(batch)
        scale = _clip_scale(batch)
        means = [
            _mean(batch, name, side, scale)
            for name, side in zip(_SIDES, sides, strict=True)
        ]
        moves = _bounded_moves(batch, sides, means)
        decay = batch.numbers["weight_decay"]
        # _mean writes the basis of the factor that it divides by: B's side uses A's.
        batch.up = batch.up - batch.lr_up * (moves[0] + decay * batch.up)
        batch.down = batch.down - batch.lr_down * (moves[1].mT + decay * batch.down)


def _unmagnified(batch: PairBatch) -> tuple[_Side, _Side]:
    """Both gradients divided by the other factor's R; skipped ones are zero."""
    basis_b, r_b = qr_gauge(batch.up)
    basis_a, r_a = qr_gauge(batch.down.mT)
    inverse_a, inverse_b = (pseudo_inverse(r, _RCOND) for r in (r_a, r_b))
    limit = batch.numbers["skip_above"]
    up = _skip(batch.grad_up @ inverse_a, limit)
    down = _skip(batch.grad_down.mT @ inverse_b, limit)
    return _Side(up, basis_a, inverse_a), _Side(down, basis_b, inverse_b)


def _skip(gradient: Tensor, limit: Tensor) -> Tensor:
    size = gradient.square().mean((-2, -1), keepdim=True).sqrt()
    return torch.where((size > limit) & (limit > 0), 0.0, gradient)


def _clip_scale(batch: PairBatch) -> Tensor:
    limit = batch.numbers["clip_norm"]
    norm = batch.joint.to(batch.up.dtype).sqrt()
    scale = limit / norm.clamp_min(torch.finfo(norm.dtype).tiny)
    return torch.where(limit > 0, scale.clamp_max(1.0), 1.0)


def _bounded_moves(
    batch: PairBatch, sides: tuple[_Side, _Side], means: list[Tensor]
) -> list[Tensor]:
    """Directions of both factors, shortened where their product would be too large.

    Uses C instead of B A, whose smallest singular vectors are rounding errors;
    directions that a pseudo-inverse leaves out are 0 in C and do not change.
    """
    up, down = sides
    # Columns of the means have length sqrt(rows) once V has converged.
    sizes = (means[0].shape[-2] * means[1].shape[-2]) ** 0.5
    step = (batch.lr_up * batch.lr_down * sizes).sqrt()
    core = torch.nan_to_num(step * (up.inverse.mT @ down.inverse))
    left, ratio, right = thin_svd(core)
    share = (_LONGEST_CROSS / ratio).clamp_max(1).sqrt().unsqueeze(-2) - 1
    means = [
        mean + ((mean @ turn) * share) @ turn.mT
        for mean, turn in zip(means, (left, right.mT), strict=True)
    ]
    return [mean @ side.inverse.mT for mean, side in zip(means, sides, strict=True)]


def _mean(batch: PairBatch, name: str, side: _Side, scale: Tensor) -> Tensor:
    """First moment of one factor, ``(K, rows, r)``; updates both moments."""
    state, other = batch.state, "down" if name == "up" else "up"
    old_basis = state[f"basis_{other}"]
    old_basis = old_basis.mT if other == "down" else old_basis
    # P of the docstring: maps moments of the old basis into the new one.
    turn = side.basis.mT @ old_basis
    state[f"basis_{other}"] = side.basis.mT if other == "down" else side.basis
    gradient = side.gradient * scale
    inverse_root = _inverse_root(batch, name, gradient, turn)
    mean = state[f"mean_{name}"]
    mean = mean.mT if name == "down" else mean
    beta = _corrected(batch.numbers["beta1"], batch.step)
    mean = beta * (mean @ turn.mT) + (1 - beta) * (gradient @ inverse_root)
    state[f"mean_{name}"] = mean.mT if name == "down" else mean
    return mean


def _inverse_root(
    batch: PairBatch, name: str, gradient: Tensor, turn: Tensor
) -> Tensor:
    """Update V (and rho) and return V's damped inverse square root."""
    state, numbers = batch.state, batch.numbers
    beta = _corrected(numbers["beta2"], batch.step)
    old = state[f"square_{name}"]
    carried = symmetric(turn @ old @ turn.mT)
    fresh = gradient.mT @ gradient / gradient.shape[-2]
    square = symmetric(beta * carried + (1 - beta) * fresh)
    state[f"square_{name}"] = square
    # Eigenvalues instead of an iteration, since eps is added to each, as in Adam.
    values, vectors = torch.linalg.eigh(square)
    values = values.clamp_min(0).unsqueeze(-2)
    if batch.choices["escape"]:
        escaped = state[f"escape_{name}"] + _escaped(old, carried)
        state[f"escape_{name}"] = escaped = beta * escaped
        values = values + escaped
    return vectors / (values.sqrt() + numbers["eps"]) @ vectors.mT


def _escaped(old: Tensor, carried: Tensor) -> Tensor:
    """Mass of V that left the basis: largest eigenvalue drop, capped by the trace's."""
    drop = torch.linalg.eigvalsh(old) - torch.linalg.eigvalsh(carried)
    largest = drop.amax(-1).clamp_min(0)
    trace = (old - carried).diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(0)
    return torch.minimum(largest, trace)[..., None, None]


def _corrected(beta: Tensor, step: Tensor) -> Tensor:
    """Adafactor's decay: 0 at the first step, converging to beta."""
    return beta * (1 - beta ** (step - 1)) / (1 - beta**step)


class LoRARITE(PairOptimizer):
    """Adaptive steps on B A that are invariant to the basis between B and A.

    It clips and skips by itself: turn the trainer's own gradient clipping off.

    Args:
        params: model, named parameters, parameters or groups of them.
        lr: learning rate; published values range from 1e-4 to 20 times Adam's.
        escape: add the second moment that a changing basis loses to every direction.
        clip_norm: joint norm of all unmagnified gradients; 0: no clipping.
        skip_above: a factor whose unmagnified gradient has a larger RMS is skipped
            for the step; 0: never.
        weight_decay: added to the direction, so multiplied by lr.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        eps: added to the square root of the second moment.

    Raises:
        OptionError: an option out of bounds.
        PairingError: parameters whose roles are ambiguous.
    """

    method = "lora_rite"
    rule = RiteRule()

    def __init__(
        self,
        params: Source,
        lr: float | Tensor = 2e-4,
        *,
        escape: bool = False,
        clip_norm: float = 1.0,
        skip_above: float = 1.0,
        weight_decay: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-6,
    ) -> None:
        options = {
            "escape": escape,
            "clip_norm": clip_norm,
            "skip_above": skip_above,
            "weight_decay": weight_decay,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
        }
        super().__init__(params, lr, options)

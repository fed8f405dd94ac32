r"""LoRA-RITE: adaptive updates that do not depend on the factorization of B A.

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

**Difference from the paper.** The updates of A and B are bounded to first order in the
product, but their product can be large: with :math:`\Delta B\,\Delta A = \eta^2\,\bar
M_B C \bar M_A^T` and :math:`C = R_A^{-T} R_B^{-1} = Q\,\mathrm{diag}(c)\,P^T` a
direction in which B A is much smaller than an update changes by :math:`\kappa_i =
\eta\,(\mathrm{rows}_A \mathrm{rows}_B)^{1/4} c_i` times the intended update. After B =
0 and one low-rank gradient, such directions are rounding errors, 1e5 times too short.
So :math:`\bar M_B Q_i` and :math:`\bar M_A P_i` are multiplied by :math:`\min(1, 4 /
\kappa_i)^{1/2}`, which does not depend on the basis and is 1 where the product is
larger than a quarter of an update.

**Cost.** Both passes over the tall matrices are products with r x r matrices.
Orthonormal bases are computed from the eigenvectors of :math:`X^T X` in float64, for
all layers at once. The update does not depend on the choice of the basis. Singular
values below :math:`10^{-6}` of the largest are treated as 0, as in a pseudo-inverse of
R. The bases are not stored. With the r x r matrix F of the last step, :math:`U_{t-1} =
X_{t-1} F^T`, and X was changed by :math:`-\eta \bar M S`, so P is computed from two r x
r matrices,

.. math::
    U_t^T U_{t-1} = F_t\,(X_t^T X_t\,F^T + X_t^T \bar M\,(\eta S F^T)),

with an error of the rounding error divided by the smallest singular value.

Eigenvalues are clamped at 0. In the reference code, a slightly negative one sets the
update to 0, so that pairs whose gradient has a rank below r are not trained.

References:
    J.-N. Yen et al., "LoRA Done RITE: Robust Invariant Transformation Equilibration for
    LoRA Optimization", 2024, arXiv:2410.20625.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..geometry import cross_gram, spectral_norm, symmetric, thin_svd, trace
from ._gram_frames import negligible
from .groups import Source
from .pair_optimizer import PairOptimizer
from .rule import (
    Core,
    FactorBatch,
    FactorRule,
    HeldFactor,
    Number,
    Role,
    Rule,
    Solver,
    StateShape,
)

__all__ = ["LoRARITE"]

# Singular values of R below this share of the largest count as 0, as in the reference.
_RCOND = 1e-6
# Largest kappa_i of a direction, see the module's docstring.
_LONGEST_CROSS = 4.0
# Least share of a factor that the decay of one step leaves, in P.
_LEAST_KEPT = 1e-2
# What is stored for each factor: moment, last frame, and last move in that frame.
_BY_ROLE = ("mean", "frame", "reach")


class RiteFactor(FactorRule):
    """Update rule of one factor; A is transposed. B has the r x r states of both."""

    look_changes_state = False
    moves_state = True

    def __init__(self, role: Role) -> None:
        self.role = role

    def look(self, batch: FactorBatch) -> Core:
        """Return X^T X and G^T G in float64, X^T M, and the r x r states."""
        point, grad = batch.point.double(), batch.grad.double()
        rows = point.shape[-2 if self.role == "up" else -1]
        seen = {
            "size": self._gram(point, point),
            "cross": self._gram(batch.point, batch.state[f"mean_{self.role}"]),
            "grad": self._gram(grad, grad),
            "rows": batch.point.new_full((len(point), 1, 1), rows),
        }
        small = (name for name in batch.state if not name.startswith("mean"))
        return seen | {name: batch.state[name] for name in small}

    def move(self, batch: FactorBatch, core: Core) -> None:
        """Update the momentum, M <- M P^T + G S, and the factor X."""
        mean, frame, reach = (f"{name}_{self.role}" for name in _BY_ROLE)
        moved = self._times(batch.state[mean], core["of_mean"])
        moved = self._added(moved, batch.grad, core["of_grad"])
        kept = 1 - batch.lr * batch.numbers["weight_decay"]
        step = batch.lr * core["step"]
        batch.point = self._added(
            _scaled(batch.point, kept), moved, step, -1, batch.writable
        )
        batch.state |= {name: core[name] for name in batch.state if name in core}
        batch.state[mean] = moved
        # Old X, in terms of the new one: (X + M step) / kept.
        old = _inverse(kept)
        batch.state[frame] = _scaled(core["frame"], old)
        batch.state[reach] = _scaled(core["reach"], old * batch.lr)

    def _gram(self, one: Tensor, other: Tensor) -> Tensor:
        """Return the Gram matrix of the columns of two factors (of the rows for A)."""
        return cross_gram(one, other) if self.role == "up" else one @ other.mT

    def _times(self, columns: Tensor, core: Tensor) -> Tensor:
        return columns @ core if self.role == "up" else core.mT @ columns

    def _added(
        self,
        to: Tensor,
        columns: Tensor,
        core: Tensor,
        alpha: float = 1,
        in_place: bool = True,
    ) -> Tensor:
        """Add a product without copying A."""
        one, other = (columns, core) if self.role == "up" else (core.mT, columns)
        if in_place:
            return to.baddbmm_(one, other, alpha=alpha)
        return torch.baddbmm(to, one, other, alpha=alpha)


class RiteDown(RiteFactor):
    """Update rule of A, whose r x r states belong to B."""

    shared = frozenset({"frame_down", "reach_down"})


class RiteRule(Rule):
    """Update rule in the docstring of this module, in two passes."""

    factorizes = True
    counts_steps = True

    _rules: Mapping[Role, FactorRule] = {
        "up": RiteFactor("up"),
        "down": RiteDown("down"),
    }

    def choices(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the option ``escape``, which selects code."""
        return {"escape": group["escape"]}

    def numbers(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Return beta1, beta2, eps, weight decay and the limits (0 disables one)."""
        names = ("beta1", "beta2", "eps", "clip_norm", "skip_above", "weight_decay")
        return {name: group[name] for name in names}

    def joint_numbers(self, choices: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the numeric options of the pair, including both learning rates."""
        return ("beta1", "beta2", "eps", "clip_norm", "skip_above", "weight_decay")

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """Return the state shapes: first moments, r x r second moments and bases."""
        shapes: dict[str, StateShape] = {
            "mean_up": "up",
            "mean_down": "down",
            "square_up": "core",
            "square_down": "core",
            "frame_up": "core",
            "frame_down": "core",
            "reach_up": "core",
            "reach_down": "core",
        }
        if choices["escape"]:
            shapes |= {"escape_up": "scalar", "escape_down": "scalar"}
        return shapes

    def adopt(self, up: HeldFactor, down: HeldFactor) -> None:
        """Convert the bases U that version 0.1 stored: a frame with X F^T = U."""
        for role, held in (("up", up), ("down", down)):
            basis = held.state.pop(f"basis_{role}", None)
            if basis is None:
                continue
            point, old = held.value.double(), basis.flatten(1).double()
            point, old = (point, old) if role == "up" else (point.mT, old.mT)
            size = point.mT @ point
            frame = (torch.linalg.pinv(size, _RCOND**2, hermitian=True)) @ (
                point.mT @ old
            )
            up.state[f"frame_{role}"] = frame.mT.to(basis.dtype).contiguous()

    def measures(self, group: Mapping[str, Any]) -> bool:
        """Return whether gradients are clipped, which requires their joint norm."""
        return group["clip_norm"] > 0

    def measure_seen(self, up: Core, down: Core, numbers: dict[str, Tensor]) -> Tensor:
        """Return the squared Frobenius norm of both unmagnified gradients."""
        _unmagnify(up, down, numbers)
        return trace(up["fresh"]) + trace(down["fresh"])

    def factor_rules(self, choices: Mapping[str, Any]) -> Mapping[Role, FactorRule]:
        """Return the same rule for both factors."""
        return self._rules

    def solver(self, choices: Mapping[str, Any]) -> Solver | None:
        """Return the solver. Each factor needs the basis of the other factor."""
        return functools.partial(_solve, escape=choices["escape"])


def _solve(
    up: Core, down: Core, lr: Tensor, numbers: Mapping[str, Tensor], *, escape: bool
) -> tuple[Core, Core]:
    """Compute the coefficients of both updates from the r x r matrices of K pairs."""
    if "fresh" not in up:
        _unmagnify(up, down, numbers)
    dtype, count = lr.dtype, len(lr)
    frames = torch.cat([down["frame"], up["frame"]]).to(dtype)
    turn = _contracted(_turn(up, down, frames))
    scale = torch.cat([up["follows"], down["follows"]]).to(dtype)
    scale = scale * torch.cat([_clip_scale(numbers, dtype)] * 2).expand_as(scale)
    rows = torch.cat([up["rows"], down["rows"]])
    fresh = torch.cat([up["fresh"], down["fresh"]]).to(dtype) * scale.square() / rows
    old = torch.cat([up["square_up"], up["square_down"]])
    beta1, beta2 = (
        torch.cat([_corrected(numbers[name], numbers["step"])] * 2)
        for name in ("beta1", "beta2")
    )
    carried = symmetric(turn @ old @ turn.mT)
    square = symmetric(beta2 * carried + (1 - beta2) * fresh)
    states = dict(zip(("square_up", "square_down"), square.split(count), strict=True))
    escaped = torch.zeros_like(scale)
    if escape:
        escaped = torch.cat([up["escape_up"], up["escape_down"]])
        escaped = beta2 * (escaped + _escaped(old, carried))
        names = ("escape_up", "escape_down")
        states |= dict(zip(names, escaped.split(count), strict=True))
    root = _inverse_root(square, escaped, torch.cat([numbers["eps"]] * 2))
    of_mean = beta1 * turn.mT
    of_grad = (1 - beta1) * scale * (frames.mT @ root)
    step = _bounded(up, down, lr, frames)
    of_down, of_up = frames.split(count)
    reach = torch.cat(step) @ torch.cat([of_up, of_down]).mT
    found = [
        {"of_mean": m, "of_grad": g, "step": s, "frame": f, "reach": n}
        for m, g, s, f, n in zip(
            of_mean.split(count),
            of_grad.split(count),
            step,
            (of_up, of_down),
            reach.split(count),
            strict=True,
        )
    ]
    return found[0] | states, found[1]


def _turn(up: Core, down: Core, frames: Tensor) -> Tensor:
    """U^T U_old of A and of B, as in the module's docstring."""
    # F X^T X is F's inverse, transposed: scaled eigenvectors, which float32 holds.
    root = torch.cat([down["root"], up["root"]]).to(frames.dtype)
    old = torch.cat([down["frame_down"], up["frame_up"]])
    cross = torch.cat([down["cross"], up["cross"]])
    reach = torch.cat([down["reach_down"], up["reach_up"]])
    return torch.baddbmm(frames @ cross @ reach, root, old.mT)


def _unmagnify(up: Core, down: Core, numbers: Mapping[str, Tensor]) -> None:
    """Add bases and Gram matrices of the unmagnified gradients to the r x r matrices.

    Computed in float64, because the rank cutoff and the squares of 1/R need its
    precision. With X^T X = Q diag(sigma^2) Q^T and F = diag(1/sigma) Q^T, the columns
    of X F^T are orthonormal and R^-1 = F^T. Rows of F are 0 where sigma is below the
    cutoff.
    """
    sizes = torch.cat([up["size"], down["size"]])
    values, vectors = torch.linalg.eigh(sizes)
    least = _RCOND**2 * values[..., -1:]
    least = least.clamp_min(negligible(numbers["eps"].dtype))
    there = values > least
    inverse = torch.where(there, torch.where(there, values, 1.0).rsqrt(), 0.0)
    up["frame"], down["frame"] = (vectors * inverse.unsqueeze(-2)).mT.chunk(2)
    lengths = torch.where(there, values, 0.0).sqrt()
    up["root"], down["root"] = (vectors * lengths.unsqueeze(-2)).mT.chunk(2)
    limit = numbers["skip_above"]
    for side, other in ((up, down), (down, up)):
        # Pairs that cannot take the step have zeros everywhere.
        side["rows"] = side["rows"].clamp_min(1)
        frame, grad = other["frame"], side["grad"]
        # Rounding errors of G, which 1/R amplifies. Without them in V, S would scale
        # them up to the length of a step.
        noise = (8 * torch.finfo(numbers["eps"].dtype).eps) ** 2 * trace(grad)
        noise = noise.squeeze(-1) * frame.square().sum(-1)
        fresh = frame @ grad @ frame.mT + torch.diag_embed(noise)
        rank = fresh.shape[-1]
        size = (trace(fresh).clamp_min(0) / (side["rows"] * rank)).sqrt()
        follows = ~((size > limit) & (limit > 0))
        side["fresh"] = torch.where(follows, fresh, 0.0)
        side["follows"] = follows


def _scaled(matrix: Tensor, factor: Number) -> Tensor:
    return matrix if isinstance(factor, float) and factor == 1.0 else matrix * factor


def _inverse(kept: Number) -> Number:
    """1 / kept, bounded where a decay leaves nothing of the old point."""
    if isinstance(kept, Tensor):
        return 1 / kept.clamp_min(_LEAST_KEPT)
    return 1 / max(kept, _LEAST_KEPT)


def _contracted(turn: Tensor) -> Tensor:
    """Scale a matrix down to a norm of at most 1, which rounding errors may exceed."""
    return turn / spectral_norm(turn).clamp_min(1.0)


def _clip_scale(numbers: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
    limit = numbers["clip_norm"]
    if "joint" not in numbers:
        return torch.ones_like(limit)
    norm = numbers["joint"].sqrt()
    scale = limit / norm.clamp_min(torch.finfo(norm.dtype).tiny)
    return torch.where(limit > 0, scale.clamp_max(1.0), 1.0).to(dtype)


def _bounded(up: Core, down: Core, lr: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Return R^-T of both updates, scaled down where their product would be too large.

    C is used instead of B A, whose smallest singular vectors are rounding errors.
    Directions below the rank cutoff are 0 in C and are not changed.
    """
    over_up, over_down = frames.chunk(2)
    # Columns of the means have length sqrt(rows) once V has converged.
    sizes = (up["rows"] * down["rows"]).sqrt()
    core = torch.nan_to_num(lr * sizes.sqrt() * (over_up @ over_down.mT))
    # Usually nothing is too long. Reading this synchronizes, but a batched SVD is slow
    # on a GPU.
    long = torch.linalg.matrix_norm(core) > _LONGEST_CROSS
    if not bool(long.any()):
        return over_up, over_down
    left, ratio, right = thin_svd(core)
    share = (_LONGEST_CROSS / ratio).clamp_max(1).sqrt().unsqueeze(-2) - 1
    moves = (
        over + (turn * share) @ (turn.mT @ over)
        for over, turn in zip((over_up, over_down), (left, right.mT), strict=True)
    )
    first, second = moves
    return first, second


def _inverse_root(square: Tensor, escaped: Tensor, eps: Tensor) -> Tensor:
    """Return the damped inverse square root of the second moment V."""
    # Eigenvalues instead of an iteration, since eps is added to each, as in Adam.
    values, vectors = torch.linalg.eigh(square)
    values = values.clamp_min(0).unsqueeze(-2) + escaped
    return vectors / (values.sqrt() + eps) @ vectors.mT


def _escaped(old: Tensor, carried: Tensor) -> Tensor:
    """Return the part of V that is lost in a change of basis (escaped mass).

    It is the largest decrease of an eigenvalue, at most the decrease of the trace.
    """
    drop = torch.linalg.eigvalsh(old) - torch.linalg.eigvalsh(carried)
    largest = drop.amax(-1).clamp_min(0)
    lost = trace(old - carried).clamp_min(0)
    return torch.minimum(largest[..., None, None], lost)


def _corrected(beta: Tensor, step: Tensor) -> Tensor:
    """Return Adafactor's decay rate: 0 at the first step, converging to beta."""
    return beta * (1 - beta ** (step - 1)) / (1 - beta**step)


class LoRARITE(PairOptimizer):
    """LoRA-RITE optimizer: adaptive updates that are independent of the factorization.

    The optimizer clips gradients itself. Disable gradient clipping in the trainer.

    Args:
        params: model, named parameters, or iterable of parameters or parameter groups
            to optimize.
        lr: learning rate. Published values range from 1e-4 to 20 times the learning
            rate of Adam.
        escape: whether to add the part of the second moment that is lost in a change of
            basis (escaped mass) to all directions.
        clip_norm: maximum joint norm of all unmagnified gradients. 0 disables clipping.
        skip_above: maximum RMS of the unmagnified gradient of a factor. If it is
            larger, the factor is not updated in this step. 0 disables this check.
        weight_decay: decoupled weight decay, multiplied by lr.
        beta1: decay rate of the first moment.
        beta2: decay rate of the second moment.
        eps: term that is added to the square root of the second moment for numerical
            stability.

    Raises:
        OptionError: If an option is out of bounds.
        PairingError: If parameters cannot be assigned to A and B unambiguously.
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

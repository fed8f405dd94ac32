r"""Stiefel-LoRA: optimizer with B on the Stiefel manifold and unconstrained A.

:math:`\Delta W = B A` with :math:`B^T B = I`, so that the singular values of the update
are those of A. Let :math:`\Pi_B(Z) = Z - B\,\mathrm{sym}(B^T Z)` be the tangent
projection, :math:`\theta =` ``angle_per_lr`` x ``lr`` the angle and :math:`\mu` the
momentum factor. With ``step="factors"``, one step is:

.. math::
    M &\leftarrow \Pi_B(\mu M + G_B) \\
    \xi &= M, \quad \text{Nesterov: } \xi = \Pi_B(G_B + \mu M) \\
    \text{momentum:}\quad \xi &\leftarrow \theta\sqrt r\;\xi / \|\xi\|_F \\
    \text{spectral:}\quad \xi &\leftarrow \theta\;\Pi_B(\mathrm{msign}(\xi)) \\
    B &\leftarrow (B-\xi)\,[(B-\xi)^T(B-\xi)]^{-1/2}

The projection transports the old momentum to the current tangent space. With
``momentum``, the root mean square of the angles by which the columns of B rotate is
:math:`\theta` radians. With ``spectral``, every direction rotates by about
:math:`\theta` (after the second projection, the spectral norm is at most
:math:`\sqrt2\,\theta` and the Frobenius norm at most :math:`\theta\sqrt r`). A is
updated with AdamW, with ``sign``, :math:`A \leftarrow A - 0.2\,lr\,\mathrm{sign}(m)`,
or with ``muon``, :math:`A \leftarrow A - lr\,\mathrm{msign}(m)`. With muon, ``lr`` is
the spectral norm of the update of B A, because B is orthonormal. For
``step="product"``, see :mod:`.stiefel_product`.

References:
    "Riemannian Optimization for LoRA on the Stiefel Manifold", 2025, arXiv:2508.17901
    (B on the Stiefel manifold with tangent momentum, QR retraction
and length ``raw``).
    OneTrainer pull request 1333, 2026 (normalized length, sign for A).
    "Spectral Steepest Descent on the Stiefel manifold" (SPEL), 2026,
    arXiv:2601.21487 (msign of the tangent gradient).
    K. Jordan et al., "Muon", 2024 (orthogonalized momentum with Nesterov).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..geometry import (
    cross_gram,
    gram_of,
    nearest_orthonormal,
    qr_gauge,
    spectral_norm_of_gram,
    symmetric,
    trace,
)
from ..methods import ANGLE_PER_LR, MOMENTUM, REST_LR_RATIO
from ._moments import ahead, heavy_ball
from .groups import Source
from .pair_optimizer import PairOptimizer
from .rule import (
    Core,
    FactorBatch,
    FactorRule,
    Number,
    Role,
    Rule,
    Solver,
    StateShape,
)
from .stiefel_product import ProductDown, ProductUp, solve_product

__all__ = ["PAPER_OPTIONS", "PULL_REQUEST_OPTIONS", "StiefelLoRA"]

PULL_REQUEST_OPTIONS = {
    "step": "factors",
    "b_rule": "momentum",
    "b_length": "rms",
    "retraction": "qr",
    "transport": False,
    "a_rule": "sign",
    "momentum": 0.95,
    "nesterov": False,
    "decay_rule": "over_rank",
}
"""Options that reproduce OneTrainer pull request 1333 (adv_optm 2.3.dev3).

From the same initial values, the factors are the same in every step. There are three
intended differences. DoRA magnitudes and biases use AdamW instead of 0.2 x lr x sign.
bfloat16 factors have float32 copies instead of stochastic rounding. Momenta with a norm
below 1e-12 are normalized like all others, while the pull request divides them by
1e-12.
"""

PAPER_OPTIONS = {
    "step": "factors",
    "b_rule": "momentum",
    "b_length": "raw",
    "retraction": "qr",
    "transport": False,
    "a_rule": "adamw",
    "angle_per_lr": 1000.0,
    "momentum": 0.9,
    "nesterov": False,
}
"""Options that approximate arXiv:2508.17901: QR of B - eta_B xi with length ``raw``.

With lr = 1e-4, ``angle_per_lr`` = 1000 corresponds to the learning rate of 0.1 for B in
the paper. The paper contains no pseudo-code, so the following are assumptions: AdamW
for A, the form and value of the momentum, and no transport of the momentum.
"""

_MOMENTUM_UP, _MOMENTUM_DOWN = "momentum_up", "momentum_down"

# A tangent part below this fraction of the ambient vector is ignored: in float32, some
# per cent of it are rounding, which would be scaled up to a full step.
_ROUNDING = 1e-4
# Maximum step length, in the spectral norm, of one polar retraction.
_LONGEST = 0.5


class TurnUp(FactorRule):
    """Update rules "spectral" and "momentum" of B, with both retractions."""

    def look(self, batch: FactorBatch) -> Core:
        """Update the momentum. Return B^T U and the Gram matrix of xi."""
        point, momentum = batch.point, heavy_ball(batch, _MOMENTUM_UP)
        if batch.choices["transport"]:
            # M is projected to the tangent space of the current B before it is stored.
            # Otherwise the part of old gradients along B, which no step of B can
            # follow, accumulates. In place, on the new momentum; tangent_project would
            # allocate another one.
            momentum.baddbmm_(point, symmetric(cross_gram(point, momentum)), alpha=-1)
        # B^T U is all that is needed from B and U together: the projection of U, its
        # skew part and the step itself follow from it by r x r products.
        ambient = ahead(batch, _MOMENTUM_UP)
        along = cross_gram(point, ambient)
        normal = symmetric(along)
        whole = torch.linalg.vector_norm(ambient, dim=(-2, -1), keepdim=True)
        # Without Nesterov, the ambient vector is the state itself, which must not
        # change; otherwise it is a temporary, whose memory the projection reuses.
        room = None if ambient is momentum else ambient
        tangent = torch.baddbmm(ambient, point, normal, alpha=-1, out=room)
        own = gram_of(tangent)
        size = trace(own).sqrt()
        core = {"normal": normal, "skew": along - normal, "size": size}
        # A momentum normal to the manifold has a tangent part of rounding errors only.
        # The decision stays a tensor, so that it does not synchronize.
        core["moves"] = size > _ROUNDING * whole
        spectral = batch.choices["b_rule"] == "spectral"
        # Under the key "gram", the engine computes the polar cores of all layers in one
        # stack; the momentum rule needs the matrix itself.
        return core | {"gram" if spectral else "own_gram": own}

    def move(self, batch: FactorBatch, core: Core) -> None:
        """Update B and retract it to the manifold."""
        # Computed again instead of kept: a tall matrix kept between the passes would
        # cost a copy of every B on the device.
        ambient = ahead(batch, _MOMENTUM_UP)
        batch.release()
        # Replaced at once, so that the memory of the old point is freed.
        batch.point = _RULES[batch.choices["b_rule"]](batch, core, ambient)
        # Both retractions use the moved point, not B and the step: rounding errors of
        # earlier steps in B are removed along with the new one and do not accumulate.
        if batch.choices["retraction"] == "qr":
            batch.point = qr_gauge(batch.point)[0]
        else:
            batch.point = nearest_orthonormal(batch.point, _LONGEST)


def _spectral(batch: FactorBatch, core: Core, ambient: Tensor) -> Tensor:
    r"""Compute B - theta Pi_B(xi T) with the polar core T of xi.

    :math:`\Pi_B(\xi T) = \xi T - B\,\mathrm{sym}(\Omega T)` with :math:`\Omega = B^T
    \xi`, the skew part of :math:`B^T U`. Both summands have a spectral norm of at most
    1 and orthogonal ranges, so the spectral norm of the update is at most sqrt(2)
    theta.
    """
    # The retraction converges for a spectral norm up to _LONGEST, and the two summands
    # below reach sqrt(2) theta together.
    theta = _at_most(_angle(batch), _LONGEST / 2**0.5)
    turn = core["polar"] * core["moves"] * theta
    # B - xi T + B sym(Omega T) with xi = U - B C is B + B (C T + sym(Omega T)) - U T:
    # two products of tall matrices, and xi is never formed again.
    inside = torch.baddbmm(symmetric(core["skew"] @ turn), core["normal"], turn)
    moved = torch.baddbmm(batch.point, batch.point, inside)
    return moved.baddbmm_(ambient, turn, alpha=-1)


def _momentum(batch: FactorBatch, core: Core, ambient: Tensor) -> Tensor:
    """Compute B - s xi, with the scale s selected by ``b_length``."""
    factor = _LENGTHS[batch.choices["b_length"]](batch, core)
    if batch.choices["retraction"] == "polar":
        # The fourth root of tr((X^T X)^2) bounds the spectral norm, by at most r^(1/4),
        # without a factorization.
        bound = torch.linalg.matrix_norm(core["own_gram"], keepdim=True).sqrt()
        factor = torch.minimum(factor, _LONGEST / _divisor(bound, core))
    factor = factor * core["moves"]
    moved = torch.addcmul(batch.point, ambient, factor, value=-1)
    return moved.baddbmm_(batch.point, core["normal"] * factor)


def _angle_length(batch: FactorBatch, core: Core) -> Tensor:
    """Return the Frobenius length theta sqrt(r)."""
    rank = batch.point.shape[-1]
    return _angle(batch) * rank**0.5 / _divisor(core["size"], core)


def _rms_length(batch: FactorBatch, core: Core) -> Tensor:
    """Return the Frobenius length 0.2 lr sqrt(out r): entries with an RMS of 0.2 lr."""
    rows, rank = batch.point.shape[-2:]
    return 0.2 * batch.lr * (rows * rank) ** 0.5 / _divisor(core["size"], core)


def _spectral_length(batch: FactorBatch, core: Core) -> Tensor:
    """Return the spectral length theta."""
    return _angle(batch) / _divisor(spectral_norm_of_gram(core["own_gram"]), core)


def _raw_length(batch: FactorBatch, core: Core) -> Tensor:
    """Return the length of the direction times theta."""
    return torch.ones_like(core["size"]) * _angle(batch)


def _divisor(norm: Tensor, core: Core) -> Tensor:
    """Return the norm by which the direction is divided, or 1 if it is not scaled."""
    return torch.where(core["moves"], norm, 1.0)


def _angle(batch: FactorBatch) -> Number:
    """Return theta in radians (a factor without unit if b_length is "raw")."""
    return batch.lr * batch.numbers["angle_per_lr"]


def _at_most(value: Number, limit: float) -> Number:
    if isinstance(value, Tensor):
        return value.clamp(max=limit)
    return min(value, limit)


_RULES: dict[str, Any] = {"spectral": _spectral, "momentum": _momentum}
_LENGTHS: dict[str, Any] = {
    "angle": _angle_length,
    "rms": _rms_length,
    "spectral": _spectral_length,
    "raw": _raw_length,
}


class MuonDown(FactorRule):
    """Update rule "muon" of A: the polar factor of the momentum."""

    def look(self, batch: FactorBatch) -> Core:
        """Update the momentum. Return U U^T of the direction U."""
        heavy_ball(batch, _MOMENTUM_DOWN)
        direction = ahead(batch, _MOMENTUM_DOWN)
        return {"gram": direction @ direction.mT}

    def move(self, batch: FactorBatch, core: Core) -> None:
        """Update A <- (1 - decay) A - lr T U."""
        turn = core["polar"] * batch.lr
        direction = ahead(batch, _MOMENTUM_DOWN)
        batch.release()
        batch.point = torch.baddbmm(_decayed(batch), turn, direction, alpha=-1)


class SignDown(FactorRule):
    """Update rule "sign" of A. 0.2 lr is the RMS of a typical AdamW update."""

    # Entries do not depend on one another.
    has_look = False

    def move(self, batch: FactorBatch, core: Core) -> None:
        """Update A <- (1 - decay) A - 0.2 lr sign(m)."""
        move = heavy_ball(batch, _MOMENTUM_DOWN).sign()
        batch.point = _decayed(batch) - 0.2 * batch.lr * move


def _decayed(batch: FactorBatch) -> Tensor:
    """Return (1 - decay) A."""
    decay: Number = batch.numbers["weight_decay"]
    if not isinstance(decay, Tensor) and decay == 0:
        return batch.point
    if batch.choices["decay_rule"] == "adamw":
        return batch.point * (1 - batch.lr * decay)
    # The pull request's rule: by the rank and the schedule, not by the unit of the
    # rate.
    rank = batch.point.shape[-2]
    return batch.point * (1 - decay / rank * batch.numbers["schedule"])


_CHOICES = (
    "step",
    "b_rule",
    "b_length",
    "retraction",
    "transport",
    "a_rule",
    "nesterov",
    "decay_rule",
)
_TURN_UP = TurnUp()
_PRODUCT: dict[Role, FactorRule] = {"up": ProductUp(), "down": ProductDown()}
_DOWN: dict[str, FactorRule] = {"muon": MuonDown(), "sign": SignDown()}


class StiefelRule(Rule):
    """Update rule in the docstring of this module, one factor at a time."""

    orthonormal_up = True
    scale_powers = MappingProxyType({_MOMENTUM_UP: 1})

    def choices(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that select code."""
        return {name: group[name] for name in _CHOICES}

    def numbers(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Return ``angle_per_lr``, momentum and weight decay."""
        angle, momentum = group["angle_per_lr"], group["momentum"]
        return {
            "angle_per_lr": ANGLE_PER_LR[group["a_rule"]] if angle is None else angle,
            "momentum": MOMENTUM[group["step"]] if momentum is None else momentum,
            "weight_decay": group["weight_decay"],
            "schedule": _schedule(group),
        }

    def joint_numbers(self, choices: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the numeric options of the solver."""
        joint = ("lr", "momentum", "weight_decay")
        return joint if choices["step"] == "product" else ()

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """Return the state shapes: momenta of B, and of A unless AdamW trains it."""
        if choices["a_rule"] == "adamw" and choices["step"] == "factors":
            return {_MOMENTUM_UP: "up"}
        return {_MOMENTUM_UP: "up", _MOMENTUM_DOWN: "down"}

    def adamw_roles(self, group: Mapping[str, Any]) -> dict[Role, float]:
        """Return A if its rule is AdamW."""
        # The step of the product moves both factors itself, whatever a_rule is set to.
        alone = group["a_rule"] == "adamw" and group["step"] == "factors"
        return {"down": 1.0} if alone else {}

    def rest_lr_ratio(self, group: Mapping[str, Any]) -> float:
        """Return the AdamW learning rate of other parameters as a multiple of lr."""
        ratio = group["rest_lr_ratio"]
        return REST_LR_RATIO[group["a_rule"]] if ratio is None else ratio

    def factor_rules(self, choices: Mapping[str, Any]) -> dict[Role, FactorRule]:
        """Return the rules of B and A for the selected options."""
        if choices["step"] == "product":
            return _PRODUCT
        if choices["a_rule"] == "adamw":
            return {"up": _TURN_UP}
        return {"up": _TURN_UP, "down": _DOWN[choices["a_rule"]]}

    def solver(self, choices: Mapping[str, Any]) -> Solver | None:
        """Return the solver if ``step`` is "product", else None."""
        return _solve if choices["step"] == "product" else None


def _solve(
    up: Core, down: Core, lr: Tensor, numbers: dict[str, Tensor]
) -> tuple[Core, Core]:
    return solve_product(up, down, lr, numbers["weight_decay"])


def _schedule(group: Mapping[str, Any]) -> float:
    """Return lr divided by the initial lr, or 1 if no scheduler has stored it.

    Only used for "over_rank", because reading a learning rate on the GPU synchronizes.
    """
    if group["decay_rule"] != "over_rank":
        return 1.0
    initial = group.get("initial_lr", group["lr"])
    return float(group["lr"]) / float(initial) if float(initial) else 0.0


class StiefelLoRA(PairOptimizer):
    """Stiefel-LoRA optimizer: train a LoRA with orthonormal B.

    B is orthonormalized at the first step and after loading a state, without changing
    the product B A. If B = 0, it is replaced by a random orthonormal matrix and A is
    set to 0. LoRA alpha must equal the rank. The optimizer can only check this if it
    receives the model.

    Args:
        params: model, named parameters, or iterable of parameters or parameter groups
            to optimize.
        lr: spectral norm of the update of the product B A. With ``step="factors"``, the
            unit depends on ``a_rule``: it is the same with muon, and the unit of AdamW
            with adamw. With sign, the update of A has an RMS of 0.2 x lr.
        step: with ``"product"``, each step updates the product B A
            (:mod:`.stiefel_product`). In this case, the only options in use are
            ``momentum``, ``rest_lr_ratio``, ``weight_decay`` (of the product,
            multiplied by lr) and beta1, beta2 and eps of AdamW for other parameters.
            With ``"factors"``, B and A are updated separately. Options marked with
            *(only factors)* must keep their defaults with ``"product"``.
        b_rule: (only factors) direction of the update of B, ``"spectral"`` or
            ``"momentum"``.
        b_length: (only factors) length of the update of B if ``b_rule`` is momentum:
            ``"angle"``, ``"rms"``, ``"spectral"`` or ``"raw"``.
        retraction: (only factors) retraction of B to the manifold, ``"polar"`` or
            ``"qr"``.
        transport: (only factors) whether to transport the momentum of B to the new
            tangent space.
        a_rule: (only factors) update rule of A, ``"muon"``, ``"adamw"`` or ``"sign"``.
        angle_per_lr: (only factors) rotation angle of B in radians per unit of lr. If
            None, it is 0.5 with muon, 2 with adamw and 7 with sign. With
            ``b_length="raw"``, it is a factor without unit.
        momentum: momentum factor in [0, 1) of the product, or of B, and of A with muon
            and sign. If None, it is 0.6 with ``step="product"`` and 0.9 with
            ``step="factors"``.
        nesterov: (only factors) whether to use Nesterov momentum (for B, and for A with
            muon).
        rest_lr_ratio: AdamW learning rate of parameters outside pairs, as a multiple of
            lr. If None, it is 0.05 with the step of the product and with muon, and 1
            otherwise.
        weight_decay: decoupled weight decay of the product, which decays A. B is not
            decayed.
        decay_rule: (only factors) form of the weight decay of A with muon and sign:
            ``"adamw"`` (multiplied by lr) or ``"over_rank"`` (divided by the rank and
            multiplied by the factor of the scheduler).
        beta1: beta1 of AdamW for parameters outside pairs, and for A with ``a_rule``
            adamw.
        beta2: beta2 of AdamW for the same parameters.
        eps: epsilon of AdamW for the same parameters.

    Raises:
        OptionError: If an option is out of bounds.
        PairingError: If parameters cannot be assigned to A and B unambiguously.
    """

    method = "stiefel_lora"
    rule = StiefelRule()

    def __init__(
        self,
        params: Source,
        lr: float | Tensor = 2e-2,
        *,
        step: str = "product",
        b_rule: str = "spectral",
        b_length: str = "angle",
        retraction: str = "polar",
        transport: bool = True,
        a_rule: str = "muon",
        angle_per_lr: float | None = None,
        momentum: float | None = None,
        nesterov: bool = True,
        rest_lr_ratio: float | None = None,
        weight_decay: float = 0.0,
        decay_rule: str = "adamw",
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        options = {
            "step": step,
            "b_rule": b_rule,
            "b_length": b_length,
            "retraction": retraction,
            "transport": transport,
            "a_rule": a_rule,
            "angle_per_lr": angle_per_lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "rest_lr_ratio": rest_lr_ratio,
            "weight_decay": weight_decay,
            "decay_rule": decay_rule,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
        }
        super().__init__(params, lr, options)

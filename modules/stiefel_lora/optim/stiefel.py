"""Stiefel-LoRA, the optimizer; its mathematics is in :mod:`._stiefel_rule`."""

from __future__ import annotations

from torch import Tensor

from ._groups import Source
from ._stiefel_rule import StiefelRule
from .pair_optimizer import PairOptimizer

__all__ = ["PAPER_OPTIONS", "PULL_REQUEST_OPTIONS", "StiefelLoRA"]

PULL_REQUEST_OPTIONS = {
    "b_rule": "momentum",
    "b_length": "rms",
    "retraction": "qr",
    "transport": False,
    "a_rule": "sign",
    "momentum": 0.95,
    "nesterov": False,
    "decay_rule": "over_rank",
}
"""OneTrainer pull request 1333 (adv_optm 2.3.dev3) in this class's options.

The factors follow that optimizer step for step, from the same start. Different on
purpose: DoRA magnitudes and biases take AdamW instead of 0.2 x lr x sign, and bfloat16
factors have float32 copies that move instead of being rounded at random. There a norm
below 1e-12 is replaced by 1e-12, so that smaller momenta move B by less; here every
length but 0 is scaled to a full step.
"""

PAPER_OPTIONS = {
    "b_rule": "momentum",
    "b_length": "raw",
    "retraction": "qr",
    "transport": False,
    "a_rule": "adamw",
    "angle_per_lr": 1000.0,
    "momentum": 0.9,
    "nesterov": False,
}
"""arXiv:2508.17901 as far as it is known: QR of B - eta_B xi with raw length.

With lr = 1e-4 for A, ``angle_per_lr`` = 1000 gives B the paper's rate of 0.1. Not
verified, for want of its pseudo-code: that A takes AdamW, the form and value of the
momentum, and that the momentum is not transported.
"""


class StiefelLoRA(PairOptimizer):
    """Train LoRA with B orthonormal: the rank that is paid for is used.

    B is brought into the gauge at the first step and after every load, without
    changing the product; B = 0 gets a seeded orthonormal start and A = 0. LoRA alpha
    must equal the rank, which an optimizer alone can not see.

    Args:
        params: model, named parameters, parameters or groups of them.
        lr: unit of the A-rule. muon: spectral norm of the product's step; adamw:
            AdamW's; sign: RMS 0.2 x lr of A's entries.
        step: ``"factors"``: B turns and A moves, each by a rule of its own; these are
            the options from ``b_rule`` to ``nesterov``. ``"product"``: one step of the
            product B A (:mod:`.stiefel_product`); lr is its spectral norm, and of the
            options only ``momentum``, ``rest_lr_ratio``, ``weight_decay`` (of the
            product, times lr) and AdamW's for the rest are used.
        b_rule: ``"spectral"`` or ``"momentum"``, direction and length of B's step.
        b_length: length of the momentum rule's step: ``"angle"``, ``"rms"``,
            ``"spectral"`` or ``"raw"``.
        retraction: ``"polar"`` or ``"qr"``.
        transport: carry B's momentum into the new tangent space.
        a_rule: ``"muon"``, ``"adamw"`` or ``"sign"``.
        angle_per_lr: radians that B turns per unit of lr; None: 0.5 with muon, 2 with
            adamw, 7 with sign. With b_length "raw" a plain factor.
        momentum: mu in [0, 1), of B and of A under muon and sign.
        nesterov: look one momentum step ahead (B, and A under muon).
        rest_lr_ratio: AdamW rate of parameters outside pairs, as a multiple of lr;
            None: 0.05 with muon, else 1.
        weight_decay: decoupled decay of A; B never decays.
        decay_rule: ``"adamw"`` (times lr) or ``"over_rank"`` (weight_decay / rank,
            times the schedule), under muon and sign.
        beta1: AdamW, for A and for parameters outside pairs.
        beta2: likewise.
        eps: likewise.

    Raises:
        OptionError: an option out of bounds.
        PairingError: parameters whose roles can not be told without guessing.
    """

    method = "stiefel_lora"
    rule = StiefelRule()

    def __init__(
        self,
        params: Source,
        lr: float | Tensor = 2e-2,
        *,
        step: str = "factors",
        b_rule: str = "spectral",
        b_length: str = "angle",
        retraction: str = "polar",
        transport: bool = True,
        a_rule: str = "muon",
        angle_per_lr: float | None = None,
        momentum: float = 0.9,
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

"""LoRA+: AdamW with a higher learning rate for B.

References:
    S. Hayou, N. Ghosh, B. Yu, "LoRA+: Efficient Low Rank Adaptation of Large Models",
    ICML 2024, arXiv:2402.12354.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .groups import Source
from .pair_optimizer import PairOptimizer
from .rule import Role, Rule

__all__ = ["LoRAPlus"]


class LoRAPlusRule(Rule):
    """Train both factors with AdamW, B at a multiple of the learning rate."""

    def adamw_roles(self, group: Mapping[str, Any]) -> dict[Role, float]:
        """Return the learning rate multiples: ``lr_ratio`` for B and 1 for A."""
        return {"up": group["lr_ratio"], "down": 1.0}


class LoRAPlus(PairOptimizer):
    """LoRA+ optimizer: AdamW whose learning rate for B is ``lr_ratio`` times that of A.

    A and B are in the same parameter group and use the same scheduler.

    Args:
        params: model, named parameters, or iterable of parameters or parameter groups
            to optimize.
        lr: learning rate of A and of parameters outside pairs.
        lr_ratio: learning rate of B as a multiple of lr. With 1, the results are
            bitwise identical to the fused AdamW of torch.
        weight_decay: decoupled weight decay, multiplied by the learning rate of the
            factor.
        weight_decay_b: weight decay of B. The default is weight_decay.
        weight_decay_a: weight decay of A. The default is weight_decay.
        beta1: decay rate of the running average of the gradient.
        beta2: decay rate of the running average of the squared gradient.
        eps: term that is added to the square root of the second moment for numerical
            stability.

    Raises:
        OptionError: If an option is out of bounds.
        PairingError: If parameters cannot be assigned to A and B unambiguously.
    """

    method = "lora_plus"
    rule = LoRAPlusRule()

    def __init__(
        self,
        params: Source,
        lr: float | Tensor = 5e-5,
        *,
        lr_ratio: float = 16.0,
        weight_decay: float = 0.0,
        weight_decay_b: float | None = None,
        weight_decay_a: float | None = None,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        options = {
            "lr_ratio": lr_ratio,
            "weight_decay": weight_decay,
            "weight_decay_b": weight_decay_b,
            "weight_decay_a": weight_decay_a,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
        }
        super().__init__(params, lr, options)

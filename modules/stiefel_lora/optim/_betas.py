"""Groups and states of optimizers that are torch's or bitsandbytes' own AdamW."""

from __future__ import annotations

from typing import Any

from ..methods import method
from ._groups import check_group
from ._refusals import check_lr
from ._saved_state import check_shapes, check_state
from .lora_optimizer import LoraOptimizer

__all__ = ["SeparateBetas"]


class SeparateBetas(LoraOptimizer):
    """Let groups have checked ``beta1`` and ``beta2`` where the base has ``betas``."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its options are checked.

        Raises:
            OptionError: an option out of bounds, or unknown.
        """
        check_group(method(self.method), param_group, self.defaults)
        check_lr(param_group.get("lr", 0.0))
        group = dict(param_group)
        beta1, beta2 = self.defaults["betas"]
        given = group.pop("beta1", beta1), group.pop("beta2", beta2)
        if given != (beta1, beta2):
            group["betas"] = given
        super().add_param_group(group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state.

        Raises:
            CheckpointError: another method saved it, or it is that of other layers.
        """
        check_state(state_dict, method(self.method))
        check_shapes(state_dict, self.param_groups)
        super().load_state_dict(state_dict)

"""AdamW of bitsandbytes with block-wise 8-bit moments.

The name of the class does not end in "8bit", because sd-scripts replaces optimizers
with such names by its own.

References:
    T. Dettmers, M. Lewis, S. Shleifer, L. Zettlemoyer, "8-bit Optimizers via Block-wise
    Quantization", 2021, arXiv:2110.02861.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bitsandbytes.optim import AdamW8bit
from bitsandbytes.optim.optimizer import Optimizer8bit

from .adamw import SeparateBetas

__all__ = ["EightBitAdamW"]


class EightBitAdamW(SeparateBetas, AdamW8bit):
    """AdamW with both moments in 8 bits for tensors of 4,096 entries or more."""

    method = "adamw_8bit"
    _tensor_rates = False

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Raises:
            OptionError: If a learning rate or an option is out of bounds.
        """
        self._check_groups()
        # Torch wraps ``step`` of the classes of which there are optimizers, to call
        # hooks. That of this common base class is never wrapped.
        return Optimizer8bit.step(self, closure)

    def get_config(self, gindex: int, pindex: int, group: dict[str, Any]) -> Any:
        """Return the options of a parameter, with the weight decay of its factor."""
        parameter = self.param_groups[gindex]["params"][pindex]
        decay = self._decay(group, parameter)
        return super().get_config(gindex, pindex, {**group, "weight_decay": decay})

    def __getstate__(self) -> dict[str, Any]:
        # Torch only copies groups and state; bitsandbytes needs more in every step.
        own = ("initialized", "is_paged", "page_mng", "mng", "args", "optimizer_name")
        own = (*own, "non_castable_tensor_keys")
        state: dict[str, Any] = dict(super().__getstate__())
        return state | {name: self.__dict__[name] for name in own}

"""AdamW of bitsandbytes with block-wise 8-bit moments, under the catalogue's names.

The class name does not end in "8bit": sd-scripts sends such names into a branch that
builds its own optimizer.

References:
    T. Dettmers, M. Lewis, S. Shleifer, L. Zettlemoyer, "8-bit Optimizers via Block-wise
    Quantization", 2021, arXiv:2110.02861.
"""

from __future__ import annotations

from typing import Any

from bitsandbytes.optim import AdamW8bit
from torch import Tensor, nn

from ..methods import check_options, method
from ._betas import SeparateBetas
from ._groups import Source, named_groups, spare_magnitudes
from .pairs import odd_ones

__all__ = ["EightBitAdamW"]


class EightBitAdamW(SeparateBetas, AdamW8bit):
    """AdamW with both moments in 8 bits for tensors of 4,096 entries or more.

    Args:
        params: model, named parameters, parameters or groups of them.
        lr: learning rate.
        weight_decay: decoupled decay, multiplied by lr; magnitudes of a DoRA have none.
        beta1: decay of the mean of gradients.
        beta2: decay of the mean of squared gradients.
        eps: added to the root of the second moment.

    Raises:
        OptionError: an option out of bounds, or nothing to optimise.
    """

    method = "adamw_8bit"

    def __init__(
        self,
        params: Source,
        lr: float | Tensor = 1e-4,
        *,
        weight_decay: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        options: dict[str, object] = {
            "weight_decay": weight_decay,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
        }
        check_options(method(self.method), options)
        self._odd = odd_ones(params) if isinstance(params, nn.Module) else []
        super().__init__(
            spare_magnitudes(named_groups(params)),
            lr=float(lr),
            betas=(beta1, beta2),
            eps=eps,
            weight_decay=weight_decay,
        )

    def __getstate__(self) -> dict[str, Any]:
        # Torch copies groups and state alone; bitsandbytes reads more in every step.
        own = ("initialized", "is_paged", "page_mng", "mng", "args", "optimizer_name")
        own = (*own, "non_castable_tensor_keys")
        state: dict[str, Any] = dict(super().__getstate__())
        return state | {name: self.__dict__[name] for name in own}

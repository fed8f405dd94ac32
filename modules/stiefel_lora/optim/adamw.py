"""AdamW under the catalogue's option names, the baseline of every comparison."""

from __future__ import annotations

import torch
from torch import Tensor

from ..methods import check_options, method
from ._groups import Source, named_groups, spare_magnitudes

__all__ = ["AdamW"]


class AdamW(torch.optim.AdamW):
    """Torch's AdamW, to the bit, with ``beta1`` and ``beta2`` as separate options.

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

    method = "adamw"

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
        super().__init__(
            spare_magnitudes(named_groups(params)),
            lr=lr,
            betas=(beta1, beta2),
            eps=eps,
            weight_decay=weight_decay,
        )

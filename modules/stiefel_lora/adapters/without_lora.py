"""The base model without its LoRA, for predictions that are training targets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

__all__ = ["without_lora"]


@contextlib.contextmanager
def without_lora(model: nn.Module) -> Iterator[None]:
    """Use the base weights of all layers in a ``with`` block, also those of DoRA.

    Afterwards, layers that were skipped before (module dropout) are skipped again.
    """
    layers: list[Any] = [m for m in model.modules() if isinstance(m, BaseTunerLayer)]
    before = [layer._disable_adapters for layer in layers]
    # enable_adapters() of peft would freeze the factors as well.
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer, was_skipped in zip(layers, before, strict=True):
            layer._disable_adapters = was_skipped

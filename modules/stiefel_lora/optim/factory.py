"""Creation of an optimizer by its catalogue name."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..methods import check_options, method, usual_lr
from .groups import Source
from .lora_optimizer import LoraOptimizer, without_betas

__all__ = ["create_optimizer"]


def create_optimizer(
    name: str,
    model_or_named_parameters: Source,
    *,
    lr: float | Tensor | None = None,
    **options: Any,
) -> LoraOptimizer:
    """Create the optimizer of a catalogue entry on a model's trainable parameters.

    With a model, its parameter names determine the pairs; and if the method needs alpha
    = rank and a PEFT layer has another alpha, its scale is first folded into A. With
    bare parameters, neither is possible.

    Args:
        name: ``"stiefel_lora"``, ``"adamw"``, ...: a key of
            :data:`stiefel_lora.methods.CATALOGUE`, or the method of an installed
            plug-in.
        model_or_named_parameters: a module, ``(name, tensor)`` pairs, or groups.
        lr: learning rate in the method's unit; None uses the method's usual rate for
            these options.
        options: options of the catalogue entry; ``betas=(b1, b2)`` for beta1, beta2.

    Raises:
        ConfigError: an installed plug-in that cannot be imported.
        OptionError: unknown name or option, or a value out of bounds.
        PairingError: ambiguous pairs.
    """
    entry = method(name)
    options = without_betas(entry, options)
    check_options(entry, options)
    rate = usual_lr(entry, options) if lr is None else lr
    return entry.load()(model_or_named_parameters, lr=rate, **options)

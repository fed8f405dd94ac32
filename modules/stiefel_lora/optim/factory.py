"""Creation of optimizers by name."""

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
    """Create an optimizer by name for the trainable parameters of a model.

    If a model is passed, LoRA pairs are found by parameter names. If the method
    requires alpha = rank and a PEFT layer has another alpha, its scale is folded
    into A first. Neither is possible if only tensors are passed.

    Args:
        name: name of the method, such as ``"stiefel_lora"`` or ``"adamw"``: a key of
            :data:`stiefel_lora.methods.CATALOGUE`, or a method of an installed plugin.
        model_or_named_parameters: a module, ``(name, tensor)`` pairs, or groups.
        lr: learning rate in the unit of the method. If None, the default for the method
            and these options is used.
        options: options of the method. ``betas=(b1, b2)`` can be used instead of beta1
            and beta2.

    Raises:
        ConfigError: If an installed plugin cannot be imported.
        OptionError: If a name or option is unknown, or a value is out of bounds.
        PairingError: If the pairs are ambiguous.
    """
    entry = method(name)
    options = without_betas(entry, options)
    check_options(entry, options)
    rate = usual_lr(entry, options) if lr is None else lr
    return entry.load()(model_or_named_parameters, lr=rate, **options)

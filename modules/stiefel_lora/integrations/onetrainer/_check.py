"""Check of a configuration for unsupported settings before a model is loaded.

:func:`check` is called when OneTrainer creates the trainer, the LoRA layers and the
optimizer, so that it is also called if one of these hooks cannot be installed.
"""

from __future__ import annotations

import math
from typing import Any

from ..._exceptions import ConfigError, OptionError
from ...methods import Method, check_options, usual_lr
from ._choices import key_of, method_of
from ._hooks import check_hooks
from ._names import refusal_of
from ._points import point

__all__ = ["KINDS", "check", "options_of"]

KINDS = ("FLOAT_32", "BFLOAT_16")


def check(config: Any) -> Method | None:
    """Check a TrainConfig and return its method. None for optimizers of OneTrainer.

    Raises:
        ConfigError: If OneTrainer would use another optimizer, lacks a required
            function, or no LoRA is trained.
        OptionError: If the method does not support a setting.
    """
    refusal = refusal_of(config)
    if refusal is not None:
        raise ConfigError(refusal)
    method = method_of(config)
    if method is None:
        return None
    check_hooks(method, config)
    _check_kind(config, method)
    check_options(method, options_of(method, config))
    _check_settings(config, method)
    return method


def _check_kind(config: Any, method: Method) -> None:
    training, peft = point(config, "training_method"), point(config, "peft_type")
    if str(training) != "LORA":
        raise ConfigError(
            f"Training method: {method.label} trains LoRA layers, but the training "
            f"method is {training}. Select LoRA, or another optimizer."
        )
    if str(peft) != "LORA":
        raise ConfigError(
            f"PEFT type: {method.label} trains LoRA factors, which {peft} does not "
            "have. Select LoRA in the LoRA tab, or another optimizer."
        )
    if point(config, "cloud.enabled"):
        raise ConfigError(
            f"Cloud: {method.label} is not available on the cloud machine, which "
            "has its own OneTrainer. Install stiefel-lora and the drop-in there and "
            "start the training there, or select an optimizer of OneTrainer."
        )


def _check_settings(config: Any, method: Method) -> None:
    kind = str(point(config, "lora_weight_dtype"))
    if kind not in KINDS:
        raise OptionError(
            f"LoRA weight data type: {method.label} requires float32 or bfloat16, "
            f"but got {kind}. Change it in the LoRA tab. The data type of the base "
            "model does not need to change."
        )
    rate = point(config, "learning_rate")
    if rate is None or not 0 <= rate < math.inf:
        shown = "empty" if rate is None else f"{rate:g}"
        usual = usual_lr(method, options_of(method, config))
        raise OptionError(
            f"Learning rate: must be a number of at least 0, but got {shown}. The "
            f"default of {method.label} is {usual:g}."
        )
    options = options_of(method, config)
    if point(config, "optimizer.fused_back_pass") and not method.steps_alone(options):
        choice = method.joint_choice(options)
        other = f"set {choice[0].label} to {choice[1]}" if choice else "select another"
        raise OptionError(
            f"Fused back pass: not supported by {method.label}, which updates both "
            "factors of a layer together. Turn it off, or "
            f"{other}{'' if choice else ' optimizer'}."
        )


def options_of(method: Method, config: Any) -> dict[str, Any]:
    """Return the options of a method in a configuration, including defaults."""
    options = {}
    for option in method.options:
        value = getattr(config.optimizer, key_of(method, option), None)
        options[option.name] = option.default if value in (None, "") else value
    return options

"""Refuse what a configuration alone shows to be impossible, before a model is loaded.

The host asks for a trainer first, then for LoRA layers, then for the optimizer. All
three lead through :func:`check`, so that a host without one of them still refuses.
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
    """Return the method of a TrainConfig; None for an optimizer of the host.

    Raises:
        ConfigError: the optimizer that was asked for is not the one that would train,
            OneTrainer lacks what the method needs, or there is no LoRA to train.
        OptionError: a setting that the method can not train with.
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
            f"{method.label} trains LoRA layers, and the training method is "
            f"{training}; choose LoRA, or another optimizer."
        )
    if str(peft) != "LORA":
        raise ConfigError(
            f"{method.label} trains LoRA factors, and a {peft} has none; "
            "choose LoRA in the LoRA tab, or another optimizer."
        )
    if point(config, "cloud.enabled"):
        raise ConfigError(
            f"{method.label} is not known on the cloud machine, which starts its own "
            "OneTrainer: install stiefel-lora and the drop-in there, and start the "
            "training there; or choose an optimizer of OneTrainer."
        )


def _check_settings(config: Any, method: Method) -> None:
    kind = str(point(config, "lora_weight_dtype"))
    if kind not in KINDS:
        raise OptionError(
            f"{method.label} needs the LoRA weight data type float32 or bfloat16, it "
            f"is {kind}; change it in the LoRA tab (the base model may stay as it is)."
        )
    rate = point(config, "learning_rate")
    if rate is None or not 0 <= rate < math.inf:
        shown = "empty" if rate is None else f"{rate:g}"
        usual = usual_lr(method, options_of(method, config))
        raise OptionError(
            f"Learning rate: it is {shown}. Set it to a number of at least 0; "
            f"{method.label} starts at {usual:g}."
        )
    options = options_of(method, config)
    if point(config, "optimizer.fused_back_pass") and not method.steps_alone(options):
        choice = method.joint_choice(options)
        other = f"set {choice[0].label} to {choice[1]}" if choice else "choose another"
        raise OptionError(
            f"Fused back pass is on, and {method.label} moves the two factors of a "
            f"layer together; switch it off, or {other}"
            f"{'' if choice else ' optimizer'}."
        )


def options_of(method: Method, config: Any) -> dict[str, Any]:
    """What the window holds; an empty field takes the default."""
    options = {}
    for option in method.options:
        value = getattr(config.optimizer, key_of(method, option), None)
        options[option.name] = option.default if value in (None, "") else value
    return options

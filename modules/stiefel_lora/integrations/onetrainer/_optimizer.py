"""Make one of our optimizers where OneTrainer makes its own."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch

from ..._exceptions import ConfigError, OptionError
from ...methods import Method, check_options
from ...optim.alpha import ALPHA_IS_RANK
from ...optim.rule import keeps_orthonormal
from ._averages import averaged, begin_anew, check_average
from ._choices import key_of, method_of, refused_name
from ._console import say
from ._gauge import enter_gauge
from ._layers import fold_alpha, layers_holding, named_parameters
from ._points import arguments_of, wrap
from ._resume import matching_state

__all__ = ["wrap_creation"]

_NAMES = "lora_param_names"


def wrap_creation(module: ModuleType) -> None:
    """Take over optimizer and averages, and refuse what can not be trained."""

    def create_optimizer(original: Any, *args: Any, **kwargs: Any) -> Any:
        given = arguments_of(
            original, args, kwargs, "parameter_group_collection", "state_dict", "config"
        )
        method = method_of(given["config"])
        if method is None:
            return original(*args, **kwargs)
        return _create(method, **{key: given[key] for key in _TAKEN})

    def create_trainer(original: Any, *args: Any, **kwargs: Any) -> Any:
        config = arguments_of(original, args, kwargs, "config")["config"]
        refusal = refused_name(config.optimizer) or _cloud_refusal(config)
        return _Refused(refusal) if refusal else original(*args, **kwargs)

    def create_ema(original: Any, *args: Any, **kwargs: Any) -> Any:
        config = arguments_of(original, args, kwargs, "config")["config"]
        method = method_of(config)
        if method is None:
            return original(*args, **kwargs)
        return averaged(method, original, args, kwargs)

    wrap(module, "create_optimizer", create_optimizer)
    wrap(module, "create_ema", create_ema)
    wrap(module, "create_trainer", create_trainer)


def _cloud_refusal(config: Any) -> str | None:
    method = method_of(config)
    if method is None or not config.cloud.enabled:
        return None
    return (
        f"{method.label} is not known on the cloud machine, which starts its own "
        "OneTrainer: install stiefel-lora and the drop-in there, and start the "
        "training there; or choose an optimizer of OneTrainer."
    )


class _Refused:
    """A trainer that fails where the window of the host expects it: when it starts."""

    def __init__(self, sentence: str) -> None:
        self._sentence = sentence

    def start(self) -> None:
        raise ConfigError(self._sentence)

    def end(self) -> None:
        """The window ends what it failed to start."""


_KINDS = ("FLOAT_32", "BFLOAT_16")
_TAKEN = ("parameter_group_collection", "state_dict", "config")


def _create(
    method: Method, parameter_group_collection: Any, state_dict: Any, config: Any
) -> torch.optim.Optimizer:
    _check(method, config)
    groups = parameter_group_collection.parameters_for_optimizer(config)
    layers = layers_holding(p for group in groups for p in group["params"])
    if not layers:
        raise ConfigError(
            f"{method.label} trains LoRA layers, and the training method is "
            f"{config.training_method}; choose LoRA, or another optimizer."
        )
    if method.alpha_policy == "rank":
        fold_alpha(layers)
    names = {id(p): name for name, p in named_parameters(layers)}
    groups = [part for group in groups for part in _named(group, names)]
    options = _options(method, config)
    for group in groups:
        group[ALPHA_IS_RANK] = True
        if "rest_lr_ratio" in options and _has_rate_of_its_own(group, config, names):
            group["rest_lr_ratio"] = 1.0
    optimizer = method.load()(groups, lr=config.learning_rate, **options)
    resumed = False
    if state_dict is not None:
        mapping = parameter_group_collection.unique_name_mapping
        state = matching_state(optimizer, state_dict, method, mapping)
        optimizer.load_state_dict(state)
        resumed = bool(state["state"])
        if not resumed:
            begin_anew(layers)
    fused = config.optimizer.fused_back_pass
    if fused and not resumed and keeps_orthonormal(method.load()):
        # Stepped one by one, a pair that enters it in training loses a step.
        enter_gauge(layers)
    _say_rate(method, config)
    return optimizer


def _check(method: Method, config: Any) -> None:
    kind = str(config.lora_weight_dtype)
    if kind not in _KINDS:
        raise OptionError(
            f"{method.label} needs the LoRA weight data type float32 or bfloat16, it "
            f"is {kind}; change it in the LoRA tab (the base model may stay as it is)."
        )
    if kind != "FLOAT_32":
        say(
            "LoRA weight data type is bfloat16: float32 copies of the factors are "
            "trained, so that this saves no memory, and the file holds their rounding."
        )
    if config.optimizer.fused_back_pass and not method.separable:
        raise OptionError(
            f"Fused back pass is on, and {method.label} moves the two factors of a "
            "layer together; switch it off, or choose another optimizer."
        )
    check_average(method, config)


def _has_rate_of_its_own(
    group: Mapping[str, Any], config: Any, names: Mapping[int, str]
) -> bool:
    """Whether a group of embeddings has the learning rate of embeddings."""
    given = getattr(config, "embedding_learning_rate", None) is not None
    return given and not any(id(p) in names for p in group["params"])


def _options(method: Method, config: Any) -> dict[str, Any]:
    """What the window holds; an empty field takes the default."""
    options = {}
    for option in method.options:
        value = getattr(config.optimizer, key_of(method, option), None)
        options[option.name] = option.default if value in (None, "") else value
    check_options(method, options)
    return options


def _named(group: Mapping[str, Any], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Name the parameters, and put the magnitudes of a DoRA into a group of their own.

    The host pairs learning rates with groups one to one, unless groups say their
    ``optim_type``.
    """
    found: dict[str, list[tuple[str, torch.Tensor]]] = {"factors": [], "magnitudes": []}
    for index, parameter in enumerate(group["params"]):
        name = names.get(id(parameter), f"{group['name']}.{index}")
        kind = "magnitudes" if "dora_scale" in name else "factors"
        found[kind].append((name, parameter))
    split = bool(found["magnitudes"])
    parts = []
    for kind, members in found.items():
        if not members:
            continue
        part = {
            **group,
            "params": [parameter for _, parameter in members],
            _NAMES: [name for name, _ in members],
        }
        if split:
            part["optim_type"] = kind
        if kind == "magnitudes":
            part["weight_decay"] = 0.0
        parts.append(part)
    return parts


def _say_rate(method: Method, config: Any) -> None:
    rate = config.learning_rate
    if rate and not 0.1 <= rate / method.default_lr <= 10:
        say(
            f"The learning rate is {rate:g}; {method.label} starts at "
            f"{method.default_lr:g} ({method.lr_unit})."
        )

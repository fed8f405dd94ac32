"""Creation of the optimizers of this package in OneTrainer."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch

from ...methods import Method, usual_lr
from ...optim.alpha import ALPHA_IS_RANK, alpha_note
from ...optim.groups import NOTED_LR
from ...optim.rule import keeps_orthonormal
from ._averages import averaged, discard_averages
from ._check import check, options_of
from ._choices import method_of
from ._console import say
from ._gauge import enter_gauge
from ._layers import fold_alpha, layers_holding, named_parameters, scale_of
from ._points import MissingPoint, arguments_of, wrap
from ._rate import is_far
from ._resume import matching_state

__all__ = ["wrap_averages_made", "wrap_optimizer"]

_NAMES = "lora_param_names"


def wrap_optimizer(module: ModuleType) -> None:
    """Create the optimizer if it is a method of this package."""

    def create_optimizer(original: Any, *args: Any, **kwargs: Any) -> Any:
        given = arguments_of(original, args, kwargs)
        method = check(given["config"])
        if method is None:
            return original(*args, **kwargs)
        return _create(method, **{key: given[key] for key in _TAKEN})

    wrap(module, "create_optimizer", create_optimizer, *_TAKEN)


def wrap_averages_made(module: ModuleType) -> None:
    """Create the EMA of a run with a method of this package."""

    def create_ema(original: Any, *args: Any, **kwargs: Any) -> Any:
        method = method_of(arguments_of(original, args, kwargs)["config"])
        if method is None:
            return original(*args, **kwargs)
        return averaged(method, original, args, kwargs)

    wrap(module, "create_ema", create_ema, "parameters", "state_dict", "config")


_TAKEN = ("parameter_group_collection", "state_dict", "config")


def _create(
    method: Method, parameter_group_collection: Any, state_dict: Any, config: Any
) -> torch.optim.Optimizer:
    _say_kind(config)
    groups = parameter_group_collection.parameters_for_optimizer(config)
    layers = layers_holding(p for group in groups for p in group["params"])
    if not layers:
        raise MissingPoint("LoRA layers made by modules.module.LoRAModule")
    if method.alpha_policy == "rank":
        fold_alpha(layers)
    names = {id(p): name for name, p in named_parameters(layers)}
    groups = [part for group in groups for part in _named(group, names)]
    options = options_of(method, config)
    for group in groups:
        group[ALPHA_IS_RANK] = True
        group[NOTED_LR] = config.learning_rate
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
            discard_averages(layers)
    fused = config.optimizer.fused_back_pass
    if fused and not resumed and keeps_orthonormal(method.load()):
        # If it is updated separately, a pair that is added during training loses a
        # step.
        enter_gauge(layers)
    note = alpha_note(method, map(scale_of, layers))
    if note:
        say(note)
    _say_start(method, config, optimizer)
    return optimizer


def _say_kind(config: Any) -> None:
    if str(config.lora_weight_dtype) != "FLOAT_32":
        say(
            "The LoRA weight data type is bfloat16, but float32 copies of the "
            "factors are trained. No memory is saved, and the file is rounded."
        )


def _has_rate_of_its_own(
    group: Mapping[str, Any], config: Any, names: Mapping[int, str]
) -> bool:
    """Return whether a group uses the learning rate of embeddings."""
    given = getattr(config, "embedding_learning_rate", None) is not None
    return given and not any(id(p) in names for p in group["params"])


def _named(group: Mapping[str, Any], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Add parameter names, and move DoRA magnitudes to a separate group.

    The groups have an ``optim_type``, because OneTrainer otherwise assigns learning
    rates to groups by order.
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


def _say_start(method: Method, config: Any, optimizer: Any) -> None:
    pairs = len(optimizer.pairs)
    others = sum(len(g["params"]) for g in optimizer.param_groups) - 2 * pairs
    beside = f" and {others} other parameters" if others else ""
    say(f"{method.label} trains {pairs} LoRA pairs{beside}.")
    usual = usual_lr(method, options_of(method, config))
    if is_far(usual, config.learning_rate):
        say(
            f"The learning rate is {config.learning_rate:g}, while the default of "
            f"{method.label} is {usual:g}. Learning rates of optimizers have different "
            "units."
        )

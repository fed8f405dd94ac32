"""Optimizer state in backups of OneTrainer."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch

from ...methods import Method
from ...optim.pair_optimizer import PairOptimizer
from ._choices import OFFERED
from ._points import arguments_of, wrap

__all__ = ["keep_counts", "matching_state"]


def matching_state(
    optimizer: torch.optim.Optimizer,
    saved: Mapping[str, Any],
    method: Method,
    mapping: list[str],
) -> dict[str, Any]:
    """Return the saved state of the groups that still exist, for the same optimizer.

    Groups are matched by name, as in OneTrainer. Learning rates are those of the
    configuration.
    """
    fresh = optimizer.state_dict()
    names = _group_names(optimizer, mapping)
    old_names = saved["param_group_mapping"]
    labels = saved["param_group_optimizer_mapping"]
    old = {
        name: group
        for name, label, group in zip(
            old_names, labels, saved["param_groups"], strict=True
        )
        if OFFERED.get(label) is method
    }
    state: dict[Any, Any] = {}
    for name, group in zip(names, fresh["param_groups"], strict=True):
        before = old.get(name)
        if before is None or len(before["params"]) != len(group["params"]):
            continue
        for index, previous in zip(group["params"], before["params"], strict=True):
            if previous in saved["state"]:
                state[index] = saved["state"][previous]
        rates = {key: group[key] for key in ("lr", "initial_lr")}
        group.update({**before, "params": group["params"], **rates})
    return {**fresh, "state": state}


def _group_names(optimizer: torch.optim.Optimizer, mapping: list[str]) -> list[str]:
    """Return the names of the groups in backups."""
    groups = optimizer.param_groups
    if any("optim_type" in group for group in groups):
        return [f"{g.get('name')}_{g.get('optim_type', 'unknown')}" for g in groups]
    return list(mapping)


def keep_counts(module: ModuleType) -> None:
    """Keep step counts on the CPU when the state is moved to the GPU.

    They are read in every step, which would synchronize the GPU.
    """

    def move(original: Any, *args: Any, **kwargs: Any) -> None:
        optimizer = arguments_of(original, args, kwargs)["optimizer"]
        counts = [
            (state, key, value.clone())
            for state in _states(optimizer)
            for key, value in state.items()
            if key.endswith("step")
        ]
        original(*args, **kwargs)
        for state, key, value in counts:
            state[key] = value

    wrap(module, "optimizer_to_device_", move, "optimizer")


def _states(optimizer: Any) -> list[dict[str, Any]]:
    ours = isinstance(optimizer, PairOptimizer)
    return list(optimizer.state.values()) if ours else []

"""Rules of sd-scripts for LoRA files and states that are saved during training."""

from __future__ import annotations

from typing import Any

from ..foreign import reasons as why
from .key_rules import Result, Rule, Scope, ignore, left, mapped, take, turned

__all__ = ["SAVING", "interval_rule"]


def interval_rule(key: str, unit: str, other: str = "") -> Rule:
    """Return a rule for a number of steps or epochs.

    Args:
        key: setting here.
        unit: ``steps`` or ``epochs``.
        other: option that is used instead if it is set.
    """

    def rule(scope: Scope, value: Any) -> Result:
        number = float(value)
        if number <= 0:
            return left("has no effect with this value", matters=False)
        if other and float(scope.get(other) or 0):
            return left(f"{other} is used instead", matters=False)
        if unit == "steps":
            return turned("", {key: int(number)})
        text = f"{int(number)} epoch{'s' * (number != 1)}"
        return turned("", {key: text})

    return rule


def _saves(unit: str, other: str = "") -> Rule:
    found = interval_rule("save_every", unit, other)

    def rule(scope: Scope, value: Any) -> Result:
        result = found(scope, value)
        if not result.sets or not scope.get("save_state"):
            return result
        every = result.sets["save_every"]
        return turned(
            "with save_state", {"save_every": every, "checkpoint_every": every}
        )

    return rule


def _kept(key: str, unit: str) -> Rule:
    """Return a rule for the last steps or epochs whose files are kept."""

    def rule(scope: Scope, value: Any) -> Result:
        every = int(scope.get(f"save_every_n_{unit}") or 0)
        if not int(value) or not every:
            return left("has no effect with this value", matters=False)
        if key == "keep_checkpoints" and not scope.get("save_state"):
            return left("is only used with save_state", matters=False)
        if unit == "epochs":
            return turned("a number of files", {key: int(value)})
        # The file of the first of these steps is kept, too.
        return turned("a number of files", {key: int(value) // every + 1})

    return rule


_TRACKERS = {
    "tensorboard": ["tensorboard"],
    "wandb": ["wandb"],
    "all": ["tensorboard", "wandb"],
}

SAVING: dict[str, Rule] = {
    "log_tracker_name": take("tracker_project", str),
    "log_with": mapped("trackers", _TRACKERS, why.LOGS),
    "save_every_n_epochs": _saves("epochs"),
    "save_every_n_steps": _saves("steps", "save_every_n_epochs"),
    "save_last_n_epochs": _kept("keep_saved", "epochs"),
    "save_last_n_epochs_state": _kept("keep_checkpoints", "epochs"),
    "save_last_n_steps": _kept("keep_saved", "steps"),
    "save_last_n_steps_state": _kept("keep_checkpoints", "steps"),
    "save_state": ignore("every checkpoint contains the state", matters=False),
}
"""Rules of files, states and logs."""

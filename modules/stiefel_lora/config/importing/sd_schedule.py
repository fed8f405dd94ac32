"""Rules of sd-scripts for the learning rate scheduler."""

from __future__ import annotations

from typing import Any

from ..foreign import reasons as why
from .key_rules import Result, Rule, Scope, ignore, left, took, turned

__all__ = ["SCHEDULE"]


def _is_schedule_free(scope: Scope) -> bool:
    return str(scope.get("optimizer_type")).lower().endswith("schedulefree")


def _scheduler(scope: Scope, value: Any) -> Result:
    name = str(value).lower()
    if _is_schedule_free(scope):
        note = (
            "" if name.startswith("constant") else "schedule-free optimizers have none"
        )
        return turned(note, {"learning_rate_scheduler": "constant"})
    if name.startswith("constant"):
        return turned("", {"learning_rate_scheduler": "constant"})
    if name in ("cosine", "linear", "rex"):
        return took("learning_rate_scheduler", name)
    key = "learning_rate_scheduler"
    if name == "cosine_with_restarts":
        cycles = int(scope.get("lr_scheduler_num_cycles", 1) or 1)
        return Result("taken", {key: name, "learning_rate_cycles": cycles})
    if name == "polynomial":
        power = float(scope.get("lr_scheduler_power", 1) or 1)
        return Result("taken", {key: name, "learning_rate_power": power})
    if name == "cosine_with_min_lr":
        return turned("", {"learning_rate_scheduler": "cosine"})
    return left(f"{why.SCHEDULES}. constant is used")


def _warmup(scope: Scope, value: Any) -> Result:
    if not float(value):
        return left("has no effect with this value", matters=False)
    if _is_schedule_free(scope):
        return left("is not used with schedule-free optimizers", matters=False)
    if str(scope.get("lr_scheduler", "constant")).lower() == "constant":
        return left("the scheduler constant has no warmup", matters=False)
    if float(value) >= 1:
        return took("learning_rate_warmup_steps", int(float(value)))
    if scope.get("max_train_epochs"):
        share = f"{100 * float(value):.10g} %"
        return turned("a fraction of the run", {"learning_rate_warmup_steps": share})
    steps = int(float(value) * int(scope.get("max_train_steps")))
    return turned("a fraction of the steps", {"learning_rate_warmup_steps": steps})


def _of_scheduler(name: str) -> Rule:
    def rule(scope: Scope, value: Any) -> Result:
        used = scope.get("lr_scheduler") == name
        return left(
            "see lr_scheduler" if used else f"is only used by {name}", matters=False
        )

    return rule


def _lowest_rate(scope: Scope, value: Any) -> Result:
    if scope.get("lr_scheduler") != "cosine_with_min_lr":
        return left("is not used by this scheduler", matters=False)
    return took("learning_rate_min_factor", float(value))


SCHEDULE: dict[str, Rule] = {
    "lr_scheduler": _scheduler,
    "lr_scheduler_args": ignore(why.SCHEDULES),
    "lr_scheduler_min_lr_ratio": _lowest_rate,
    "lr_scheduler_num_cycles": _of_scheduler("cosine_with_restarts"),
    "lr_scheduler_power": _of_scheduler("polynomial"),
    "lr_scheduler_type": ignore(why.SCHEDULES),
    "lr_warmup_steps": _warmup,
}
"""Rules of the scheduler and its warmup."""

"""Default learning rate of a method when it is selected in the GUI."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from ...methods import usual_lr
from ._check import options_of
from ._choices import method_of
from ._console import say
from ._hooks import tolerated
from ._points import arguments_of, point, wrap

__all__ = [
    "is_far",
    "propose_in_dialog",
    "propose_in_tab",
    "without_choice",
]

FAR = 10.0
_LOST = "its default learning rate is not suggested when it is selected"

# By configuration: the last suggested rate, and the rate that it replaced.
_proposed: weakref.WeakKeyDictionary[Any, tuple[float, str]] = (
    weakref.WeakKeyDictionary()
)

# True while the host builds the tab; None until that hook is installed.
_building: list[bool] = []


def is_far(usual: float, rate: float | None) -> bool:
    """Return whether a learning rate is empty, or a factor of 10 from the default."""
    if rate is None:
        return True
    return rate != 0 and not 1 / FAR <= rate / usual <= FAR


def propose_in_tab(module: ModuleType) -> None:
    """Suggest a learning rate when an optimizer is selected in the training tab."""
    _propose(point(module, "TrainingTabController"))


def propose_in_dialog(module: ModuleType) -> None:
    """Suggest a learning rate when an optimizer is selected in its window."""
    _propose(point(module, "OptimizerParamsWindowController"))


def without_choice(module: ModuleType) -> None:
    """Keep the learning rate of a loaded configuration while the tab is created.

    The callback of the drop-down list is also called when the tab is created.
    """

    def build(original: Any, *args: Any, **kwargs: Any) -> Any:
        _building[:] = [True]
        try:
            return original(*args, **kwargs)
        finally:
            _building[:] = [False]

    wrap(point(module, "BaseTrainingTabView"), "build", build)
    _building[:] = [False]


def _propose(controllers: Any) -> None:
    def restore(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        with tolerated(_LOST):
            if _building == [False]:
                _settle(self, arguments_of(original, (self, *args), kwargs))
        return result

    wrap(controllers, "restore_optimizer_config", restore, "ui_state")


def _settle(controller: Any, given: Mapping[str, Any]) -> None:
    config = point(controller, "config")
    field = point(given["ui_state"], "get_var")("learning_rate")
    method, rate = method_of(config), point(config, "learning_rate")
    proposed, before = _proposed.get(config, (None, field.get()))
    untouched = proposed is not None and rate == proposed
    if method is None:
        if untouched:
            field.set(before)
            say(f"Learning rate restored to {before or 'empty'}.")
        _proposed.pop(config, None)
        return
    usual = usual_lr(method, options_of(method, config))
    if not untouched and not is_far(usual, rate):
        return
    if not untouched:
        before = field.get()
    _proposed[config] = usual, before
    if rate != usual:
        field.set(str(usual))
        was = "empty" if rate is None else f"{rate:g}"
        say(
            f"Learning rate set to {usual:g}, the default of {method.label}; it was "
            f"{was}."
        )

"""Error messages in the GUI of OneTrainer."""

from __future__ import annotations

import weakref
from types import ModuleType
from typing import Any

from ..._exceptions import StiefelLoraError
from ._console import say
from ._points import point, wrap

__all__ = ["remember_window", "shown_in_window"]

# Controller that started the last training of this process.
_windows: list[weakref.ref[Any]] = []


def remember_window(module: ModuleType) -> None:
    """Store the controller that starts a training, to show errors in its window."""

    def start_training(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        _windows[:] = [weakref.ref(self)]
        return original(self, *args, **kwargs)

    wrap(point(module, "TrainUIController"), "start_training", start_training)


def shown_in_window(trainer: Any, config: Any) -> Any:
    """Show the error of a trainer in the GUI instead of raising an exception.

    An exception would only be printed as a traceback in the console.
    """
    window = _windows[0]() if _windows else None
    if window is None or getattr(window, "train_config", None) is not config:
        return trainer
    start = trainer.start

    def start_or_show() -> None:
        try:
            start()
        except StiefelLoraError as error:
            message = str(error)
            view = point(window, "view")
            show = point(view, "show_validation_errors")
            point(view, "schedule_on_main_thread")(lambda: show([message]))
            say(message)
            trainer.train = _nothing

    trainer.start = start_or_show
    return trainer


def _nothing() -> None:
    """Do nothing. The GUI calls this method after the trainer was started."""

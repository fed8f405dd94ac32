"""Show a refusal in OneTrainer's window as the message that it shows for its own."""

from __future__ import annotations

import weakref
from types import ModuleType
from typing import Any

from ..._exceptions import StiefelLoraError
from ._console import say
from ._points import point, wrap

__all__ = ["remember_window", "shown_in_window"]

# What started the last training of this process from a window.
_windows: list[weakref.ref[Any]] = []


def remember_window(module: ModuleType) -> None:
    """Remember which window starts a training, to show a refusal there."""

    def start_training(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        _windows[:] = [weakref.ref(self)]
        return original(self, *args, **kwargs)

    wrap(point(module, "TrainUIController"), "start_training", start_training)


def shown_in_window(trainer: Any, config: Any) -> Any:
    """Let a trainer that a window starts show its refusal there, in place of raising.

    What is raised in the thread of a window ends as a traceback in the console.
    """
    window = _windows[0]() if _windows else None
    if window is None or getattr(window, "train_config", None) is not config:
        return trainer
    start = trainer.start

    def start_or_show() -> None:
        try:
            start()
        except StiefelLoraError as error:
            sentence = str(error)
            view = point(window, "view")
            show = point(view, "show_validation_errors")
            point(view, "schedule_on_main_thread")(lambda: show([sentence]))
            say(sentence)
            trainer.train = _nothing

    trainer.start = start_or_show
    return trainer


def _nothing() -> None:
    """Train nothing: the window goes on to it where a start returns."""

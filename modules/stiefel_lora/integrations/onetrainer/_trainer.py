"""Checks when OneTrainer creates a trainer, before a model is loaded."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..._exceptions import StiefelLoraError
from ._check import check
from ._points import arguments_of, wrap
from ._refusals import shown_in_window

__all__ = ["wrap_trainer"]


def wrap_trainer(module: ModuleType) -> None:
    """Return a trainer that raises an error on start if a check fails."""

    def create_trainer(original: Any, *args: Any, **kwargs: Any) -> Any:
        config = arguments_of(original, args, kwargs)["config"]
        try:
            method = check(config)
        except StiefelLoraError as error:
            return shown_in_window(_Refused(error), config)
        trainer = original(*args, **kwargs)
        return trainer if method is None else shown_in_window(trainer, config)

    wrap(module, "create_trainer", create_trainer, "config")


class _Refused:
    """Trainer that raises an error on start, where the GUI handles errors."""

    def __init__(self, error: StiefelLoraError) -> None:
        self._error = error

    def start(self) -> None:
        raise self._error

    def end(self) -> None:
        """Do nothing. The GUI calls this method for a trainer that failed to start."""

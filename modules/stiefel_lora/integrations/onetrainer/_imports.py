"""Functions that are called when a module is imported."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["finish_late", "when_imported"]

Action = Callable[[ModuleType], None]

_done: set[str] = set()
_late: list[tuple[ModuleType, Action]] = []


def when_imported(actions: Mapping[str, Action]) -> None:
    """Call each action once with its module, after the module was executed.

    A module that is currently being imported is handled by :func:`finish_late`. Actions
    must not raise, because they run inside imports of the host.
    """
    waiting = {}
    for name, action in actions.items():
        if name in _done:
            continue
        _done.add(name)
        module = sys.modules.get(name)
        if module is None:
            waiting[name] = action
        elif getattr(module.__spec__, "_initializing", False):
            _late.append((module, action))
        else:
            action(module)
    if waiting:
        sys.meta_path.insert(0, _Finder(waiting))


def finish_late() -> None:
    """Call the actions of modules that were being imported."""
    while _late:
        module, action = _late.pop()
        action(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Import finder that uses the other finders and calls the actions."""

    def __init__(self, waiting: dict[str, Action]) -> None:
        self._waiting = waiting
        self._asked: set[str] = set()

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname not in self._waiting or fullname in self._asked:
            return None
        self._asked.add(fullname)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asked.discard(fullname)
        if spec is None or spec.loader is None:
            return spec
        loader: Any = spec.loader
        execute = loader.exec_module

        def execute_and_act(module: ModuleType) -> None:
            execute(module)
            # Not earlier: a spec may be requested without an import.
            action = self._waiting.pop(fullname, None)
            if action is not None:
                action(module)

        loader.exec_module = execute_and_act
        return spec

"""Put hooks into OneTrainer, and remember which of them found nothing to hold on to.

A hook is put in while the host imports its modules, also in a run that names one of the
host's own optimizers. So it raises nothing there: what is missing is remembered, and
:func:`check_hooks` refuses or warns once one of our methods is chosen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.machinery
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

from ...methods import Method
from ._console import say
from ._imports import finish_late, when_imported
from ._points import TESTED, MissingPoint

__all__ = ["Hook", "check_hooks", "lost_points", "put_in", "tolerated", "warn_of_all"]

Condition = Callable[[Method, Any], bool]


def _always(_method: Method, _config: Any) -> bool:
    return True


@dataclasses.dataclass(frozen=True)
class Hook:
    """What is done to one module of the host.

    Attributes:
        module: the host's module.
        put: does it, given the module.
        lost: what does not work without it, in words that follow a colon; empty where
            a method can not train without it.
        needed: for a method and a TrainConfig, whether the method can not train
            without it. By default every hook that names no loss is needed.
    """

    module: str
    put: Callable[[ModuleType], None]
    lost: str = ""
    needed: Condition | None = None

    def is_needed(self, method: Method, config: Any) -> bool:
        """Whether the method can not train this configuration without the hook."""
        condition = self.needed or (_never if self.lost else _always)
        return condition(method, config)


def _never(_method: Method, _config: Any) -> bool:
    return False


# What each hook of this process found missing; None where it is in place.
_found: dict[Hook, str | None] = {}
_hooks: list[Hook] = []
_warned: set[str] = set()


def put_in(hooks: Sequence[Hook]) -> None:
    """Put every hook in as soon as the host has imported its module."""
    for hook in hooks:
        if hook not in _hooks:
            _hooks.append(hook)
    modules = dict.fromkeys(hook.module for hook in hooks)
    when_imported({name: _put_all(name) for name in modules})


def _put_all(name: str) -> Callable[[ModuleType], None]:
    def put_all(module: ModuleType) -> None:
        for hook in _hooks:
            if hook.module == name:
                _found[hook] = _put(hook, module)

    return put_all


def _put(hook: Hook, module: ModuleType) -> str | None:
    try:
        hook.put(module)
    # Whatever the host has become, its own optimizers go on training.
    except Exception as error:
        return _what(error, module.__name__)
    return None


def _what(error: Exception, place: str) -> str:
    if isinstance(error, MissingPoint):
        return error.what
    return f"{place} of the known form ({type(error).__name__}: {error})"


def check_hooks(method: Method, config: Any) -> None:
    """Refuse a method whose hooks are not in place; warn of what it does without.

    Raises:
        MissingPoint: it names every point that is missing and the tested version.
    """
    finish_late()
    needed = [hook for hook in _hooks if hook.is_needed(method, config)]
    for hook in needed:
        if hook not in _found:
            # Not imported so far, or moved; importing it puts the hook in.
            with contextlib.suppress(ImportError):
                importlib.import_module(hook.module)
    missing = [problem for hook in needed if (problem := _problem(hook, imported=True))]
    if missing:
        raise MissingPoint(" and no ".join(dict.fromkeys(missing)))
    for hook in _hooks:
        problem = _problem(hook, imported=False)
        if problem and hook not in needed and hook.lost:
            _warn(f"This OneTrainer has no {problem}", hook.lost)


def warn_of_all() -> None:
    """Say what this host lacks, before anything is chosen in its window."""
    for hook in _hooks:
        problem = _problem(hook, imported=False)
        if problem:
            lost = hook.lost or "the optimizers of stiefel-lora are refused"
            _warn(f"This OneTrainer has no {problem}", lost)


def lost_points() -> list[str]:
    """Everything that this host is known to lack."""
    problems = (_problem(hook, imported=False) for hook in _hooks)
    return list(dict.fromkeys(problem for problem in problems if problem))


@contextlib.contextmanager
def tolerated(lost: str) -> Iterator[None]:
    """Let the host go on where something fails that a run can do without; say it."""
    try:
        yield
    # As at import: a changed host must not lose a run over what is only shown.
    except Exception as error:
        _warn(f"This OneTrainer has no {_what(error, 'module')}", lost)


def _warn(problem: str, lost: str) -> None:
    """Say once what does not work, and why."""
    sentence = f"{problem}: {lost}. It was tested with {TESTED}."
    if sentence not in _warned:
        _warned.add(sentence)
        say(sentence)


def _problem(hook: Hook, *, imported: bool) -> str | None:
    """What of a hook is missing; a module that only lies there will do, or not."""
    if hook in _found:
        return _found[hook]
    if not imported and _is_there(hook.module):
        return None
    return f"module {hook.module}"


def _is_there(name: str) -> bool:
    """Whether a module could be imported, without importing it."""
    parent, _, _ = name.rpartition(".")
    try:
        found = importlib.import_module(parent)
        paths = getattr(found, "__path__", None)
        return importlib.machinery.PathFinder.find_spec(name, paths) is not None
    except ImportError:
        return False

"""Installation of hooks in OneTrainer.

Hooks are installed when modules of OneTrainer are imported, for all optimizers.
Therefore, no exception is raised if a hook cannot be installed. :func:`check_hooks`
raises an error or warns when a method of this package is selected.
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
    """Change of a module of OneTrainer.

    Attributes:
        module: name of the module.
        put: function that installs the hook in the module.
        lost: text about a feature that does not work without the hook. Empty if
            training is not possible without it.
        needed: function that returns whether a method with a TrainConfig requires the
            hook. By default, hooks with an empty ``lost`` are required.
    """

    module: str
    put: Callable[[ModuleType], None]
    lost: str = ""
    needed: Condition | None = None

    def is_needed(self, method: Method, config: Any) -> bool:
        """Return whether a method requires the hook for a configuration."""
        condition = self.needed or (_never if self.lost else _always)
        return condition(method, config)


def _never(_method: Method, _config: Any) -> bool:
    return False


# Missing name per hook of this process; None if the hook is installed.
_found: dict[Hook, str | None] = {}
_hooks: list[Hook] = []
_warned: set[str] = set()


def put_in(hooks: Sequence[Hook]) -> None:
    """Install every hook when its module is imported."""
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
    # The host's own optimizers must work even if the host has changed.
    except Exception as error:
        return _what(error, module.__name__)
    return None


def _what(error: Exception, place: str) -> str:
    if isinstance(error, MissingPoint):
        return error.what
    return f"{place} of the known form ({type(error).__name__}: {error})"


def check_hooks(method: Method, config: Any) -> None:
    """Raise an error if required hooks are missing. Warn about missing optional hooks.

    Raises:
        MissingPoint: If functions are missing in OneTrainer. The message contains all
            of them and the tested version.
    """
    finish_late()
    needed = [hook for hook in _hooks if hook.is_needed(method, config)]
    for hook in needed:
        if hook not in _found:
            # Not imported yet, or moved; importing it installs the hook.
            with contextlib.suppress(ImportError):
                importlib.import_module(hook.module)
    missing = [problem for hook in needed if (problem := _problem(hook, imported=True))]
    if missing:
        raise MissingPoint(" and no ".join(dict.fromkeys(missing)))
    for hook in _hooks:
        problem = _problem(hook, imported=False)
        if problem and hook not in needed and hook.lost:
            _warn(f"This version of OneTrainer has no {problem}", hook.lost)


def warn_of_all() -> None:
    """Print messages about missing hooks when the GUI is started."""
    for hook in _hooks:
        problem = _problem(hook, imported=False)
        if problem:
            lost = hook.lost or "the optimizers of stiefel-lora cannot be used"
            _warn(f"This version of OneTrainer has no {problem}", lost)


def lost_points() -> list[str]:
    """Return the names of all missing functions."""
    problems = (_problem(hook, imported=False) for hook in _hooks)
    return list(dict.fromkeys(problem for problem in problems if problem))


@contextlib.contextmanager
def tolerated(lost: str) -> Iterator[None]:
    """Report an error in an optional feature inside a ``with`` block, and continue."""
    try:
        yield
    # As on import: a display feature must not stop a run if the host has changed.
    except Exception as error:
        _warn(f"This version of OneTrainer has no {_what(error, 'module')}", lost)


def _warn(problem: str, lost: str) -> None:
    """Print a message about a feature that does not work, once."""
    message = f"{problem}: {lost}. It was tested with {TESTED}."
    if message not in _warned:
        _warned.add(message)
        say(message)


def _problem(hook: Hook, *, imported: bool) -> str | None:
    """Return the problem of a hook that was not installed, if any."""
    if hook in _found:
        return _found[hook]
    if not imported and _is_there(hook.module):
        return None
    return f"module {hook.module}"


def _is_there(name: str) -> bool:
    """Return whether a module exists, without importing it."""
    parent, _, _ = name.rpartition(".")
    try:
        found = importlib.import_module(parent)
        paths = getattr(found, "__path__", None)
        return importlib.machinery.PathFinder.find_spec(name, paths) is not None
    except ImportError:
        return False

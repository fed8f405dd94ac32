"""Install hooks in OneTrainer, and record which of them could not be installed.

Hooks are installed while the host imports its modules, including runs with the host's
own optimizers. So they do not raise there: failures are recorded, and
:func:`check_hooks` raises or warns when one of our methods is selected.
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
    """A change to one module of the host.

    Attributes:
        module: the host's module.
        put: function that installs the hook in the module.
        lost: feature that does not work without it, as text after a colon; empty if no
            method can train without it.
        needed: whether a method with a TrainConfig requires the hook. By default, hooks
            with empty ``lost`` are required.
    """

    module: str
    put: Callable[[ModuleType], None]
    lost: str = ""
    needed: Condition | None = None

    def is_needed(self, method: Method, config: Any) -> bool:
        """Return whether the method requires the hook for this configuration."""
        condition = self.needed or (_never if self.lost else _always)
        return condition(method, config)


def _never(_method: Method, _config: Any) -> bool:
    return False


# Missing name per hook of this process; None if the hook is installed.
_found: dict[Hook, str | None] = {}
_hooks: list[Hook] = []
_warned: set[str] = set()


def put_in(hooks: Sequence[Hook]) -> None:
    """Install every hook as soon as the host has imported its module."""
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
    """Raise if required hooks are missing. Warn of missing optional ones.

    Raises:
        MissingPoint: If names are missing. The message contains all of them and the
            tested version.
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
            _warn(f"This OneTrainer has no {problem}", hook.lost)


def warn_of_all() -> None:
    """Report missing hooks before anything is selected in the GUI."""
    for hook in _hooks:
        problem = _problem(hook, imported=False)
        if problem:
            lost = hook.lost or "the optimizers of stiefel-lora cannot be used"
            _warn(f"This OneTrainer has no {problem}", lost)


def lost_points() -> list[str]:
    """Return all names that are known to be missing."""
    problems = (_problem(hook, imported=False) for hook in _hooks)
    return list(dict.fromkeys(problem for problem in problems if problem))


@contextlib.contextmanager
def tolerated(lost: str) -> Iterator[None]:
    """Continue and report an error in an optional feature."""
    try:
        yield
    # As on import: a display feature must not stop a run if the host has changed.
    except Exception as error:
        _warn(f"This OneTrainer has no {_what(error, 'module')}", lost)


def _warn(problem: str, lost: str) -> None:
    """Report once what does not work, and why."""
    message = f"{problem}: {lost}. It was tested with {TESTED}."
    if message not in _warned:
        _warned.add(message)
        say(message)


def _problem(hook: Hook, *, imported: bool) -> str | None:
    """Return the missing name of a hook. An existing module may suffice."""
    if hook in _found:
        return _found[hook]
    if not imported and _is_there(hook.module):
        return None
    return f"module {hook.module}"


def _is_there(name: str) -> bool:
    """Return whether a module could be imported, without importing it."""
    parent, _, _ = name.rpartition(".")
    try:
        found = importlib.import_module(parent)
        paths = getattr(found, "__path__", None)
        return importlib.machinery.PathFinder.find_spec(name, paths) is not None
    except ImportError:
        return False

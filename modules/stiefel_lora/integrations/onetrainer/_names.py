"""Detection of configurations whose optimizer was replaced by the default.

OneTrainer replaces fields that it cannot read by their defaults. An unknown optimizer
becomes ADAMW with the learning rate of the requested optimizer. This is checked
afterwards, because exceptions are ignored while a configuration is read.
"""

from __future__ import annotations

import difflib
import json
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ._choices import method_named, method_of
from ._console import say
from ._hooks import lost_points
from ._imports import finish_late
from ._points import TESTED, point, wrap

__all__ = ["named_in", "refusal_of", "watch_names"]

_REFUSED = "_stiefel_lora_refusal"

# Also recorded globally for our methods: the GUI copies a loaded configuration field by
# field, which copies ADAMW but none of our attributes.
_not_taken: list[tuple[weakref.ref[Any], str]] = []


def watch_names(module: ModuleType) -> None:
    """Store the optimizer of a configuration if OneTrainer does not accept it."""

    def with_known_optimizer(
        original: Any, self: Any, data: Mapping[str, Any], *rest: Any, **more: Any
    ) -> Any:
        # Every training passes through here.
        finish_late()
        result = original(self, data, *rest, **more)
        if "optimizer" in data:
            _note(self, data["optimizer"])
        return result

    wrap(point(module, "TrainOptimizerConfig"), "from_dict", with_known_optimizer)


def _note(settings: Any, name: object) -> None:
    refusal = _refusal(getattr(settings, "optimizer", None), name)
    setattr(settings, _REFUSED, refusal)
    if refusal is None:
        # The same settings got another optimizer later, for example by --config-value.
        _not_taken[:] = [one for one in _not_taken if one[0]() is not settings]
        return
    say(refusal)
    if method_named(name) is not None:
        _not_taken[:] = [(weakref.ref(settings), refusal)]


def _refusal(taken: Any, name: object) -> str | None:
    members = getattr(type(taken), "__members__", {})
    if not isinstance(name, str) or members.get(name, object()) is taken:
        return None
    if method_named(name) is not None:
        return _lost(name, taken)
    shown = [str(member) for member in members.values()]
    near = difflib.get_close_matches(name, shown, n=1, cutoff=0.5)
    meant = f"Did you mean {near[0]}?" if near else "Select one from the dropdown."
    return f"There is no optimizer {name!r}. {meant}"


def _lost(name: object, taken: object) -> str:
    lacks = " and no ".join(lost_points())
    cause = f"it has no {lacks}; " if lacks else ""
    return (
        f"Optimizer: the configuration has {name!r}, but this version of OneTrainer "
        f"uses {taken} instead: {cause}stiefel-lora was tested with {TESTED}. Update "
        "stiefel-lora, use that version of OneTrainer, or select another optimizer "
        "and its learning rate."
    )


def refusal_of(config: Any) -> str | None:
    """Return the error for a configuration whose optimizer was replaced.

    The configuration can be edited in the GUI, but training is not started.
    """
    refusal = getattr(getattr(config, "optimizer", None), _REFUSED, None)
    if refusal is not None or method_of(config) is not None:
        return refusal
    if _not_taken:
        # Raise only once: in the GUI another optimizer can then be trained.
        return _not_taken.pop()[1]
    name = named_in(sys.argv[1:])
    if method_named(name) is None:
        return None
    return _lost(name, getattr(getattr(config, "optimizer", None), "optimizer", None))


def named_in(arguments: Sequence[str]) -> str | None:
    """Return the optimizer in the configuration files of a command line.

    None without ``--config-path``, and if a file cannot be read.
    """
    named = None
    for option in ("--preset-path", "--config-path"):
        for path in _values(arguments, option):
            named = _named_by(Path(path)) or named
    for value in _values(arguments, "--config-value"):
        key, _, name = value.partition("=")
        named = name if key == "optimizer.optimizer" else named
    return named


def _values(arguments: Sequence[str], option: str) -> Iterator[str]:
    for index, argument in enumerate(arguments):
        name, given, value = argument.partition("=")
        if name == option and given:
            yield value
        elif name == option and index + 1 < len(arguments):
            yield arguments[index + 1]


def _named_by(path: Path) -> str | None:
    try:
        data = json.loads(path.read_text("utf-8"))
        if data.get("use_stiefel"):
            return "Stiefel LoRA"
        settings = data.get("optimizer")
        # Before version 1 of the host's configurations, the optimizer was only a name.
        return settings if isinstance(settings, str) else settings.get("optimizer")
    except (OSError, ValueError, AttributeError):
        return None

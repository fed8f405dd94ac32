"""Edited settings with undo history, presets and files.

The data has the form of a minimal config file: keys at their default are absent, paths
are absolute.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..._exceptions import ConfigError
from ...config import TrainConfig, lean, load_config
from ...config.dump import dump_lean
from ...config.epochs import newest_length
from ...config.optimizer import OPTIMIZER_MODELS
from ...config.plugins import load_named_plugins
from ...config.presets import find_preset
from ...config.schema import DEFAULT_OPTIMIZER
from ...files.atomic import atomic_write
from ...methods import find_record
from .pages import all_fields, optimizer_fields

__all__ = ["Document"]

# Seconds within which typing into one field is one undo step.
_TYPING_SECONDS = 1.0
_MOST_STEPS = 500


class Document:
    """Settings with undo history, compared with their preset.

    Keys are those of the configuration. Options of the optimizer have keys such as
    ``optimizer.momentum``. Functions passed to :meth:`subscribe` are called after every
    change.
    """

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.baseline: dict[str, Any] = {}
        """Settings of the preset or file that was loaded last."""

        self.source: Path | None = None
        """Source of ``baseline``, or None for the defaults."""

        self._undo: list[dict[str, Any]] = []
        self._redo: list[dict[str, Any]] = []
        self._typed: tuple[str, float] | None = None
        self._watchers: list[Callable[[], None]] = []

    def subscribe(self, watcher: Callable[[], None]) -> None:
        """Add a function that is called after every change."""
        self._watchers.append(watcher)

    # Values --------------------------------------------------------------------------

    @property
    def optimizer(self) -> str:
        """Name of the selected optimizer."""
        return self.data.get("optimizer", {}).get("name", DEFAULT_OPTIMIZER)

    def value(self, key: str) -> Any:
        """Return the value of a field, or its default."""
        container, last = self._container(key)
        return container[last] if last in container else self.default(key)

    def is_set(self, key: str) -> bool:
        """Return whether a value differs from the default."""
        container, last = self._container(key)
        return last in container

    def default(self, key: str) -> Any:
        """Return the value of a field that is not set."""
        head, _, option = key.partition(".")
        if option:
            known = {field.key: field for field in optimizer_fields(self.optimizer)}
            # The plugin of the optimizer may be missing.
            return copy.deepcopy(known[option].default) if option in known else None
        if head == "optimizer":
            return {"name": DEFAULT_OPTIMIZER}
        if head == "learning_rate":
            return self._default_rate()
        return copy.deepcopy(all_fields()[head].default)

    def _default_rate(self) -> float:
        model = OPTIMIZER_MODELS.get(self.optimizer)
        chosen = model and model.model_construct(name=self.optimizer)
        field = TrainConfig.model_fields["learning_rate"]
        return field.get_default(
            call_default_factory=True, validated_data={"optimizer": chosen}
        )

    def _container(self, key: str) -> tuple[dict[str, Any], str]:
        head, _, option = key.partition(".")
        if option:
            return self.data.get("optimizer", {}), option
        return self.data, head

    # Changes -------------------------------------------------------------------------

    def set(self, key: str, value: Any, *, typing: bool = False) -> None:
        """Set a value. Setting the default removes the key.

        Args:
            key: key of the field.
            value: JSON data.
            typing: whether the user is typing. Consecutive changes of this kind are a
                single undo step.
        """
        if value == self.value(key) and type(value) is type(self.value(key)):
            return
        after = copy.deepcopy(self.data)
        head, _, option = key.partition(".")
        if option:
            container = after.setdefault("optimizer", {"name": self.optimizer})
        else:
            container = after
        last = option or head
        # An empty field without an empty value is set to its default.
        emptied = value is None and not option and not all_fields()[head].optional
        if head in ("steps", "epochs") and value is not None:
            # A second length would be an error.
            after = container = newest_length(after, {head: value})
        if emptied or value == self.default(key):
            container.pop(last, None)
        else:
            container[last] = copy.deepcopy(value)
        self._apply(after, key if typing else None)

    def choose_optimizer(self, name: str) -> None:
        """Switch to another optimizer with its default options and learning rate.

        LoRA alpha is reset to the rank if the optimizer controls the scale.
        """
        if name == self.optimizer:
            return
        after = copy.deepcopy(self.data)
        after["optimizer"] = {"name": name}
        if name == "custom":
            after["optimizer"]["class"] = "torch.optim.RAdam"
        after.pop("learning_rate", None)
        entry = find_record(name)
        if entry is not None and entry.alpha_policy == "rank":
            after.pop("lora_alpha", None)
        if entry is not None and entry.plugin is not None:
            # The training process must load the plugin too.
            named = after.get("plugins", [])
            after["plugins"] = [*named, *({entry.plugin} - {*named})]
        self._apply(after, None)

    def reset(self, key: str) -> None:
        """Reset a top-level field to its value in the preset."""
        after = copy.deepcopy(self.data)
        if key in self.baseline:
            after[key] = copy.deepcopy(self.baseline[key])
        else:
            after.pop(key, None)
        self._apply(after, None)

    def _apply(self, after: dict[str, Any], typed: str | None) -> None:
        if after == self.data:
            return
        now = time.monotonic()
        last = self._typed
        continues = last and typed == last[0] and now - last[1] < _TYPING_SECONDS
        if not continues:
            self._undo.append(self.data)
            del self._undo[:-_MOST_STEPS]
        self._typed = (typed, now) if typed else None
        self._redo.clear()
        self._become(after)

    def _become(self, data: dict[str, Any]) -> None:
        self.data = data
        for watcher in self._watchers:
            watcher()

    # History -------------------------------------------------------------------------

    @property
    def can_undo(self) -> bool:
        """Return whether there is a change to undo."""
        return bool(self._undo)

    @property
    def can_redo(self) -> bool:
        """Return whether there is a change to redo."""
        return bool(self._redo)

    def undo(self) -> None:
        """Undo the last change."""
        self._move(self._undo, self._redo)

    def redo(self) -> None:
        """Redo the last undone change."""
        self._move(self._redo, self._undo)

    def forget_history(self) -> None:
        """Make the present settings the first ones, which cannot be undone."""
        self._undo.clear()
        self._redo.clear()
        self._typed = None

    def _move(self, come: list[dict[str, Any]], go: list[dict[str, Any]]) -> None:
        if not come:
            return
        go.append(self.data)
        self._typed = None
        self._become(come.pop())

    # Files ---------------------------------------------------------------------------

    def load(self, path: Path) -> None:
        """Load a preset or file. Undo restores the previous settings.

        Raises:
            ConfigError: If the file is invalid. The error has one line per problem.
        """
        data = lean(load_config(path))
        data.pop("schema_version")
        self.baseline, self.source = copy.deepcopy(data), path
        self._apply(data, None)
        self._become(self.data)

    def begin(self, data: dict[str, Any]) -> None:
        """Start from a configuration that extends a preset, in one undo step.

        Raises:
            ConfigError: If the data is invalid. The error has one line per problem.
        """
        from ...config import parse_config

        found = lean(parse_config(data))
        preset = find_preset(data["extends"])
        baseline = lean(load_config(preset))
        for settings in (found, baseline):
            settings.pop("schema_version")
        self.baseline, self.source = baseline, preset
        self._apply(found, None)
        self._become(self.data)

    def take_over(self, data: dict[str, Any], folder: Path) -> None:
        """Start from an imported configuration, in one undo step.

        Args:
            data: settings.
            folder: folder to which paths are relative.

        Raises:
            ConfigError: If the data is invalid. The error has one line per problem.
        """
        from ...config import parse_config

        found = lean(parse_config(data, folder=folder))
        found.pop("schema_version")
        self.baseline, self.source = copy.deepcopy(found), None
        self._apply(found, None)
        self._become(self.data)

    def restore(self, data: dict[str, Any], source: Path | None) -> None:
        """Restore settings of an earlier session, which may be invalid."""
        self.baseline = {}
        if source is not None and source.is_file():
            self.load(source)
            self.forget_history()
        # A plugin that no longer exists is reported at its field.
        with contextlib.suppress(ConfigError):
            load_named_plugins(data)
        self._become({key: data[key] for key in data if key in all_fields()})

    def save(self, path: Path) -> None:
        """Save the settings that differ from the defaults to a config file.

        Raises:
            ConfigError: If the settings are invalid.
            OutputError: If the file cannot be written.
        """
        config = self.config()
        with atomic_write(path) as part:
            part.write_text(dump_lean(config), encoding="utf-8", newline="\n")
        self.baseline, self.source = copy.deepcopy(self.data), path
        self._become(self.data)

    def config(self) -> TrainConfig:
        """Return the validated configuration.

        Raises:
            ConfigError: If the settings are invalid. The error has one line per
                problem.
        """
        from ...config import parse_config

        return parse_config(self.data)

"""State of the GUI that is saved between sessions."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from ..._exceptions import OutputError
from ..._text import is_text
from ...files.atomic import atomic_write

__all__ = ["Memory", "home"]

_WINDOW = "window.json"


def home() -> Path:
    """Return the folder of the GUI state: ``STIEFEL_LORA_UI``, or a default folder."""
    chosen = os.environ.get("STIEFEL_LORA_UI")
    return Path(chosen) if chosen else Path.home() / ".stiefel_lora"


@dataclasses.dataclass
class Memory:
    """State of the GUI: settings, their preset, theme, and the last run."""

    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    source: str = ""
    theme: str = "system"
    size: list[int] = dataclasses.field(default_factory=lambda: [1180, 800])
    tab: int = 0
    run: str = ""
    advanced: bool = False
    """Whether all settings are shown."""

    captioner: str = ""
    """Model that wrote captions last."""

    first: bool = True
    """Whether the GUI is opened for the first time."""

    @classmethod
    def load(cls, name: str = _WINDOW) -> Memory:
        """Load the state. The defaults are used if the file is missing or damaged.

        Args:
            name: name of the file. The window and the browser have their own.
        """
        try:
            found = json.loads((home() / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return cls()
        fresh = cls()
        for field in dataclasses.fields(cls):
            value = found.get(field.name) if isinstance(found, dict) else None
            if _is_like(value, getattr(fresh, field.name)):
                setattr(fresh, field.name, value)
        return fresh

    def save(self, name: str = _WINDOW) -> str:
        """Save the state. Return an error message, or "" if it was saved."""
        text = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)
        try:
            with atomic_write(home() / name) as part:
                part.write_text(text, encoding="utf-8", newline="\n")
        except OutputError as error:
            return str(error)
        except UnicodeError:
            # Settings that were pasted can contain what UTF-8 cannot encode.
            return "The settings contain characters that no file can store."
        return ""


def _is_like(value: object, default: object) -> bool:
    """Return whether a loaded value has the type of the default, in lists as well."""
    if type(value) is not type(default):
        return False
    if isinstance(value, str):
        return is_text(value)
    if isinstance(value, list) and isinstance(default, list):
        return len(value) == len(default) and all(map(_is_like, value, default))
    return True

"""Violations of the rules of the configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from .._exceptions import (
    CheckpointError,
    ConfigError,
    DataError,
    InputError,
    ModelError,
    OptionError,
    OutputError,
)

__all__ = ["SettingsError", "Violation", "by_setting"]


@dataclasses.dataclass(frozen=True)
class Violation:
    """Invalid setting: its key, the problem and the fix.

    Args:
        key: dotted key of the setting, such as ``lora_rank`` or ``concepts.0.path``. It
            is "" for the whole configuration.
        message: description of the problem, starting in lower case and without a period
            at the end.
        fix: description of the fix, or "" if it is obvious.
        example: fix on the command line, such as ``--set steps=100``. It is not shown
            in forms.
    """

    key: str
    message: str
    fix: str = ""
    example: str = ""

    @property
    def text(self) -> str:
        """Problem and fix as text, without the key.

        >>> from stiefel_lora.config import Violation
        >>> Violation("steps", "must be at least 1, but got 0").text
        'Must be at least 1, but got 0.'
        """
        whole = self._problem_and_fix(self.fix)
        return whole[:1].upper() + whole[1:]

    def inside(self, parent: str) -> Violation:
        """Return a copy whose key has a prefix, such as ``concepts.0.path``."""
        key = ".".join(part for part in (parent, self.key) if part)
        return dataclasses.replace(self, key=key)

    def __str__(self) -> str:
        """Return key, problem and fix as text.

        >>> str(Violation("steps", "must be at least 1", "Use for example 100"))
        'steps: must be at least 1. Use for example 100.'
        """
        example = f", for example {self.example}" if self.example else ""
        text = self._problem_and_fix(f"{self.fix}{example}")
        return f"{self.key}: {text}" if self.key else text[:1].upper() + text[1:]

    def _problem_and_fix(self, fix: str) -> str:
        return " ".join(_ended(text) for text in (self.message, fix) if text)


class SettingsError(ConfigError):
    """Error about invalid settings, with a line for each violation.

    Attributes:
        violations: violations with their keys.
    """

    def __init__(self, violations: Iterable[Violation], title: str = "") -> None:
        self.violations = tuple(violations)
        self._title = title
        super().__init__(_under(title, [str(found) for found in self.violations]))

    def under(self, title: str) -> SettingsError:
        """Return the same error with a file name in front of the message."""
        return SettingsError(self.violations, title)

    def __reduce__(self) -> tuple[type[SettingsError], tuple[object, ...]]:
        """Support pickling."""
        return SettingsError, (self.violations, self._title)


# Settings with the inputs that errors of these kinds are about.
_INPUTS: tuple[tuple[type[InputError], str], ...] = (
    (ModelError, "base_model_name"),
    (DataError, "concepts"),
    (OutputError, "output_dir"),
    (OptionError, "optimizer"),
    (CheckpointError, "lora_model_name"),
)


def by_setting(error: InputError) -> list[tuple[str, str]]:
    """Return keys of the settings that an error is about, with the messages."""
    if isinstance(error, SettingsError):
        return [(found.key, found.text) for found in error.violations]
    key = error.key if isinstance(error, ConfigError) else ""
    for kind, found in _INPUTS:
        key = key or (found if isinstance(error, kind) else "")
    return [(key, str(error))]


def _under(title: str, lines: list[str]) -> str:
    """Append a line to the title, or several lines below it."""
    if not title:
        return "\n".join(lines)
    if len(lines) == 1:
        return f"{title}: {lines[0]}"
    return "\n".join([f"{title}:", *(f"  {line}" for line in lines)])


def _ended(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."

"""Violations of rules: the key, the problem and the fix."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from .._exceptions import ConfigError

__all__ = ["SettingsError", "Violation"]


@dataclasses.dataclass(frozen=True)
class Violation:
    """A setting that breaks a rule: its key, the problem and the fix.

    Forms find the field by ``key``. No code parses the texts, so they can be
    reworded.

    Args:
        key: dotted key of the setting, such as ``lora_rank`` or ``concepts.0.path``. ""
            for the whole configuration.
        message: description of the problem, starting in lower case and without a period
            at the end.
        fix: description of the fix, "" if it is obvious.
        example: the fix on the command line, such as ``--set steps=100``. It is not
            shown in forms.
    """

    key: str
    message: str
    fix: str = ""
    example: str = ""

    @property
    def text(self) -> str:
        """Problem and fix, for a place that shows the setting itself.

        >>> from stiefel_lora.config import Violation
        >>> Violation("steps", "must be at least 1, but got 0").text
        'Must be at least 1, but got 0.'
        """
        whole = self._problem_and_fix(self.fix)
        return whole[:1].upper() + whole[1:]

    def inside(self, parent: str) -> Violation:
        """Prefix the key: ``path`` in ``concepts.0`` becomes ``concepts.0.path``."""
        key = ".".join(part for part in (parent, self.key) if part)
        return dataclasses.replace(self, key=key)

    def __str__(self) -> str:
        """Key, problem and fix, for a file or a command line.

        >>> str(Violation("steps", "must be at least 1", "Use for example 100"))
        'steps: must be at least 1. Use for example 100.'
        """
        example = f", for example {self.example}" if self.example else ""
        text = self._problem_and_fix(f"{self.fix}{example}")
        return f"{self.key}: {text}" if self.key else text[:1].upper() + text[1:]

    def _problem_and_fix(self, fix: str) -> str:
        return " ".join(_ended(text) for text in (self.message, fix) if text)


class SettingsError(ConfigError):
    """Settings that break rules, one line per violation.

    Attributes:
        violations: the violations with their keys.
    """

    def __init__(self, violations: Iterable[Violation], title: str = "") -> None:
        self.violations = tuple(violations)
        self._title = title
        super().__init__(_under(title, [str(found) for found in self.violations]))

    def under(self, title: str) -> SettingsError:
        """Return the same error with the name of a file in front."""
        return SettingsError(self.violations, title)

    def __reduce__(self) -> tuple[type[SettingsError], tuple[object, ...]]:
        """Pickle for other processes."""
        return SettingsError, (self.violations, self._title)


def _under(title: str, lines: list[str]) -> str:
    """Put one line behind the title, or several below it."""
    if not title:
        return "\n".join(lines)
    if len(lines) == 1:
        return f"{title}: {lines[0]}"
    return "\n".join([f"{title}:", *(f"  {line}" for line in lines)])


def _ended(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."

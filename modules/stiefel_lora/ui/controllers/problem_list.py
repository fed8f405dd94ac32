"""Problems that must be solved before training, for the list in the top bar."""

from __future__ import annotations

import dataclasses

from ..._wording import counted
from .findings import Findings
from .pages import label_of

__all__ = ["OpenProblem", "open_problems", "problem_count"]

_MOST = 90


@dataclasses.dataclass(frozen=True)
class OpenProblem:
    """Problem of a setting."""

    key: str
    title: str
    """Label of the setting and the message, shortened to a line."""

    message: str


def open_problems(findings: Findings, method: str) -> list[OpenProblem]:
    """Return the first error of each setting, and the settings that are missing.

    Args:
        findings: errors of the settings.
        method: name of the selected optimizer.
    """
    texts = {key: messages[0] for key, messages in findings.errors.items()}
    for key in findings.missing:
        texts.setdefault(key, "required before training")
    return [_problem(key, label_of(key, method), text) for key, text in texts.items()]


def problem_count(count: int) -> str:
    """Return the number of problems as text.

    >>> problem_count(1), problem_count(2)
    ('1 problem', '2 problems')
    """
    return counted(count, "problem", "problems")


def _problem(key: str, label: str, text: str) -> OpenProblem:
    short = text if len(text) <= _MOST else f"{text[: _MOST - 3]}…"
    return OpenProblem(key, f"{label}: {short}" if label else short, text)

"""Wildcards in captions: ``{a|b}``, and one of several lines, as in sd-scripts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

__all__ = ["lines_of", "with_choices"]

_CHOICE = re.compile(r"\{([^}]+)\}")


def lines_of(text: str) -> list[str]:
    """Return the lines of a text, without empty ones."""
    # Not splitlines, which also splits at rare characters inside a line.
    return [line.strip() for line in text.split("\n") if line.strip()]


def with_choices(text: str, choose: Callable[[Sequence[str]], str]) -> str:
    """Choose a line of a text, and an option of each of its wildcards.

    ``{{`` and ``}}`` stand for braces. They are read first and from the left, so that a
    wildcard cannot begin or end at another brace.

    Args:
        text: the caption.
        choose: function that returns one of several options.

    >>> with_choices("a {red|blue} cat", min), with_choices("{{a|b}}", min)
    ('a blue cat', '{a|b}')
    """
    lines = lines_of(text)
    text = choose(lines) if len(lines) > 1 else text
    # Characters of this area of Unicode have no meaning; any that are in the text are
    # skipped.
    free = (chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in text)
    opened, closed = next(free), next(free)
    text = text.replace("{{", opened).replace("}}", closed)
    text = _CHOICE.sub(lambda found: choose(found[1].split("|")), text)
    return text.replace(opened, "{").replace(closed, "}")

"""Parse weights in prompts, such as ``(word:1.2)``, as A1111 does, without torch."""

from __future__ import annotations

import dataclasses
import re

__all__ = ["WeightedPrompt", "has_weights", "parse_weights", "read_weights"]

_ROUND, _SQUARE = 1.1, 1 / 1.1

_PARTS = re.compile(
    r"""
      \\(?P<escaped>[\\()\[\]])?
    | (?P<weighted>:\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\))
    | (?P<bracket>[()\[\]])
    | (?P<text>:|[^\\()\[\]:]+)
    """,
    re.VERBOSE,
)


@dataclasses.dataclass(frozen=True)
class WeightedPrompt:
    """Pieces of a prompt with their weights. Each piece is tokenized on its own."""

    pieces: tuple[tuple[str, float], ...]
    keeps_mean: bool = True
    """Whether the mean of the hidden states stays the same, as in samples."""

    @property
    def is_weighted(self) -> bool:
        """Return whether a weight differs from 1."""
        return any(weight != 1 for _, weight in self.pieces)

    def __str__(self) -> str:
        """Return the prompt without weights."""
        return "".join(text for text, _ in self.pieces)


def parse_weights(prompt: str) -> WeightedPrompt:
    r"""Split a prompt into pieces with weights.

    ``(a)`` has weight 1.1, ``[a]`` 1/1.1 and ``(a:1.3)`` 1.3. Weights of nested
    brackets are multiplied. ``\(``, ``\)``, ``\[``, ``\]`` and ``\\`` are these
    characters. Brackets that are never closed extend to the end of the prompt. Brackets
    and weights that close nothing, and weights that are no number, are text.

    >>> parse_weights("a ((red:1.5) cat), [old]").pieces[1]
    ('red', 1.6500000000000001)
    >>> parse_weights(r"a \(cat\)").pieces
    (('a (cat)', 1.0),)
    """
    texts: list[str] = []
    weights: list[float] = []
    starts: dict[str, list[int]] = {"(": [], "[": []}

    def scale(start: int, factor: float) -> None:
        weights[start:] = [weight * factor for weight in weights[start:]]

    for match in _PARTS.finditer(prompt):
        bracket, weight = match["bracket"], match["weight"]
        if bracket in starts:
            starts[bracket].append(len(texts))
        elif weight is not None and starts["("]:
            scale(starts["("].pop(), float(weight))
        elif bracket == ")" and starts["("]:
            scale(starts["("].pop(), _ROUND)
        elif bracket == "]" and starts["["]:
            scale(starts["["].pop(), _SQUARE)
        else:
            # Like A1111, a backslash in front of any other character is left out.
            whole = match[0]
            texts.append((match["escaped"] or "") if whole[0] == "\\" else whole)
            weights.append(1.0)
    for kind, factor in (("(", _ROUND), ("[", _SQUARE)):
        for start in starts[kind]:
            scale(start, factor)
    return WeightedPrompt(_merged(texts, weights))


def read_weights(text: str, *, keeps_mean: bool = True) -> str | WeightedPrompt:
    """Return a text with its weights, or without brackets if there are no weights."""
    prompt = parse_weights(text)
    if not prompt.is_weighted:
        return str(prompt)
    return dataclasses.replace(prompt, keeps_mean=keeps_mean)


def has_weights(prompt: str) -> bool:
    """Return whether a part of a prompt has a weight such as ``(word:1.2)``.

    >>> has_weights("a (red:1.2) cat"), has_weights("a cat (1:2)"), has_weights("(cat)")
    (True, True, False)
    """
    return any(match["weight"] is not None for match in _PARTS.finditer(prompt))


def _merged(texts: list[str], weights: list[float]) -> tuple[tuple[str, float], ...]:
    """Join neighbors of the same weight."""
    found: list[tuple[str, float]] = []
    for text, weight in zip(texts, weights, strict=True):
        if found and found[-1][1] == weight:
            found[-1] = (found[-1][0] + text, weight)
        else:
            found.append((text, weight))
    return tuple(found) or (("", 1.0),)

"""Parser of ``--sweep KEY=V1,V2,...``, which creates a job per value.

With several sweeps, a job is created for every combination. Values are parsed as for
``--set``. Commas inside brackets, braces or double quotes are not separators. To change
several keys together, join the keys and the values by ``+``:
``optimizer.name+learning_rate=adamw+0.003,stiefel_lora+0.02``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from .._exceptions import ConfigError
from ..config.overrides import parse_override

__all__ = ["Sweep", "combinations", "parse_sweep"]

OPTIMIZER = "optimizer.name"

Sweep = list[list[str]]
"""Points of a sweep. Each one is a list of ``KEY=VALUE`` settings."""


def parse_sweep(text: str) -> Sweep:
    """Parse the argument of ``--sweep``.

    >>> parse_sweep("lora_rank=8,16")
    [['lora_rank=8'], ['lora_rank=16']]

    Raises:
        ConfigError: If the key or a value is missing, a value is given twice, or the
            number of keys and values differs.
    """
    key, equals, values = text.partition("=")
    keys = [part.strip() for part in key.split("+")]
    points = [point.strip() for point in _split(values, ",")]
    if not equals or not all(keys) or not all(points):
        raise ConfigError(
            f"--sweep: {text!r} does not have the form KEY=V1,V2. Use for example "
            "lora_rank=8,16."
        )
    if len(set(points)) < len(points):
        double = next(point for point in points if points.count(point) > 1)
        raise ConfigError(
            f"--sweep: {text!r} contains {double} twice. Remove one of them."
        )
    return [_point(text, keys, point) for point in points]


def combinations(sweeps: Iterable[str], fixed: Sequence[str]) -> Iterator[list[str]]:
    """Return the ``KEY=VALUE`` settings of every job, in the order of the sweeps.

    Raises:
        ConfigError: If a sweep is invalid, or a key is given twice.
    """
    parsed = [parse_sweep(text) for text in sweeps]
    _check_doubles(parsed, fixed)
    for points in itertools.product(*parsed):
        yield list(itertools.chain.from_iterable(points))


def ordered(swept: Sequence[str], fixed: Sequence[str]) -> list[str]:
    """Sort settings into the order in which they must be applied.

    A swept optimizer is applied first, because it replaces all optimizer options.
    """
    first = [text for text in swept if text.partition("=")[0] == OPTIMIZER]
    return [*first, *fixed, *(text for text in swept if text not in first)]


def _point(text: str, keys: list[str], point: str) -> list[str]:
    values = _split(point, "+") if len(keys) > 1 else [point]
    if len(values) != len(keys):
        raise ConfigError(
            f"--sweep: {point} in {text!r} must have {len(keys)} values joined by +, "
            f"one for each of {', '.join(keys)}."
        )
    found = [f"{key}={value}" for key, value in zip(keys, values, strict=True)]
    for override in found:
        parse_override(override)
    return found


def _check_doubles(parsed: Sequence[Sweep], fixed: Sequence[str]) -> None:
    swept = [override.partition("=")[0] for sweep in parsed for override in sweep[0]]
    given = [text.partition("=")[0].strip() for text in fixed]
    for key in swept:
        if swept.count(key) > 1:
            raise ConfigError(
                f"--sweep: {key} is given twice. Use one --sweep with all values."
            )
        if key in given:
            raise ConfigError(f"--sweep: {key} is also in --set. Remove one of them.")


def _split(text: str, separator: str) -> list[str]:
    """Split at separators outside of brackets and double quotes."""
    parts, depth, quoted = [""], 0, False
    for letter in text:
        quoted ^= letter == '"'
        if not quoted:
            depth += (letter in "[{") - (letter in "]}")
        if letter == separator and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return parts

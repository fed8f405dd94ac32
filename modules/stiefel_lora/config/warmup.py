"""Length of the warmup: a number of steps, or a text such as ``"5 %"``."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Annotated

from pydantic_core import PydanticCustomError

from ._base import MAX_COUNT
from .interval import TextOrCount, interval_text

__all__ = ["WARMUP_UNITS", "Warmup", "warmup_steps"]

WARMUP_UNITS = ("steps", "%", "epochs")

_TEXT = re.compile(
    r"(?i)\s*(\d{1,12}(?:\.\d{1,12})?|\.\d{1,12})\s*(%|step|epoch)s?\s*", re.ASCII
)
# The same for JSON Schema, whose regular expressions have no flags.
_PATTERN = (
    r"^\s*([0-9]{1,12}(\.[0-9]{1,12})?|\.[0-9]{1,12})\s*"
    r"(%|[Ss][Tt][Ee][Pp]|[Ee][Pp][Oo][Cc][Hh])[Ss]?\s*$"
)


def warmup_steps(value: int | str, steps: int) -> int:
    """Return the number of steps of a warmup that is not in epochs, rounded down.

    Args:
        value: a number of steps, or a share such as ``"5 %"``.
        steps: number of steps of the run.

    >>> warmup_steps(20, 500), warmup_steps("2.5 %", 500)
    (20, 12)
    """
    if isinstance(value, int):
        return value
    number, unit = value.split()
    assert unit == "%", "epochs are converted before training"
    return int(Fraction(number) * steps / 100)


def _read(text: str) -> int | str:
    """Convert a text to the form that is kept; steps to a number.

    Raises:
        PydanticCustomError: If it is not a length. The message has the valid forms.
    """
    found = _TEXT.fullmatch(text)
    number = Decimal(found[1]) if found else Decimal(-1)
    unit = found[2].lower() if found else ""
    if unit == "step" and number % 1 == 0 and number <= MAX_COUNT:
        return int(number)
    if found and unit == "epoch" and 0 < number <= MAX_COUNT:
        return interval_text(found[1], "epochs")
    if unit == "%" and number <= 100:
        return f"{format(number.normalize(), 'f')} %"
    problem = 'must be a number of steps, or a text such as "5 %" or "2 epochs"'
    raise PydanticCustomError("interval", "{problem}", {"problem": problem})


Warmup = Annotated[int | str, TextOrCount(_read, _PATTERN, WARMUP_UNITS)]
"""A number of steps, or a text with a unit: ``"5 %"``, ``"2 epochs"``."""

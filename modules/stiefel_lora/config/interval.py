"""Intervals between events: a number of steps, or a text such as ``"2 epochs"``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from ._base import MAX_COUNT, Count

__all__ = [
    "UNITS",
    "Interval",
    "TextOrCount",
    "interval_text",
    "is_in",
    "split_interval",
]

Unit = Literal["steps", "epochs", "minutes"]
UNITS: tuple[Unit, ...] = ("steps", "epochs", "minutes")

_TEXT = re.compile(
    r"(?i)\s*(\d{1,12}(?:\.\d{1,12})?|\.\d{1,12})\s*(step|epoch|minute)s?\s*",
    re.ASCII,
)
# The same for JSON Schema, whose regular expressions have no flags.
_PATTERN = (
    r"^\s*([0-9]{1,12}(\.[0-9]{1,12})?|\.[0-9]{1,12})\s*"
    r"([Ss][Tt][Ee][Pp]|[Ee][Pp][Oo][Cc][Hh]|[Mm][Ii][Nn][Uu][Tt][Ee])[Ss]?\s*$"
)


def split_interval(value: int | str) -> tuple[Fraction, Unit]:
    """Split a valid interval into number and unit.

    >>> split_interval(250), split_interval("0.5 epochs")
    ((Fraction(250, 1), 'steps'), (Fraction(1, 2), 'epochs'))
    """
    if not isinstance(value, str):
        return Fraction(value), "steps"
    number, unit = value.split()
    return Fraction(number), next(name for name in UNITS if name.startswith(unit))


def is_in(value: int | str | None, unit: Unit) -> bool:
    """Return whether an interval is set and has the unit ``unit``."""
    if isinstance(value, str):
        return unit.startswith(value.split()[1].removesuffix("s"))
    return value is not None and unit == "steps"


def interval_text(number: str, unit: str) -> str:
    """Write a decimal number and a unit in the form that a configuration keeps.

    >>> interval_text("1.0", "epochs"), interval_text(".50", "minutes")
    ('1 epoch', '0.5 minutes')
    """
    plain = format(Decimal(number).normalize(), "f")
    return f"{plain} {unit.removesuffix('s') if plain == '1' else unit}"


def _read(text: str) -> int | str:
    """Convert a text to the form that is kept; steps to a number.

    Raises:
        PydanticCustomError: If it is not an interval. The message has the valid forms.
    """
    found = _TEXT.fullmatch(text)
    if not found:
        raise _wrong("must be a number of steps, or a text such as ")
    unit = f"{found[2].lower()}s"
    if unit == "steps" and Decimal(found[1]) % 1 == 0:
        number = int(Decimal(found[1]))
        if number <= MAX_COUNT:
            return number
    elif unit != "steps" and 0 < Decimal(found[1]) <= MAX_COUNT:
        return interval_text(found[1], unit)
    if unit == "steps":
        raise _wrong(f"must be an integer of at most {MAX_COUNT:,} steps, or ")
    limits = f"above 0 and at most {MAX_COUNT:,}"
    raise _wrong(f"must be {limits} (0 without a unit: never), such as ")


def _wrong(rule: str) -> PydanticCustomError:
    problem = f'{rule}"2 epochs" or "10 minutes"'
    return PydanticCustomError("interval", "{problem}", {"problem": problem})


@dataclasses.dataclass(frozen=True)
class TextOrCount:
    """Validation as an integer of at least 0, or as a text with a unit.

    ``read`` converts a text to the form that is kept. ``pattern`` and, if given,
    ``units`` are entries of its JSON Schema.
    """

    read: Callable[[str], int | str]
    pattern: str
    units: tuple[str, ...] = ()

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            lambda value, count: (
                self.read(value) if isinstance(value, str) else count(value)
            ),
            handler.generate_schema(Count),
            # The inner schema would warn about texts.
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: value
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        number = {"type": "integer", "minimum": 0, "maximum": MAX_COUNT}
        text: dict[str, Any] = {"type": "string", "format": "interval"}
        text["pattern"] = self.pattern
        units = {"units": list(self.units)} if self.units else {}
        return {"anyOf": [number, text | units]}


Interval = Annotated[int | str, TextOrCount(_read, _PATTERN)]
"""A number of steps, or a text with a unit: ``"2 epochs"``, ``"10 minutes"``."""

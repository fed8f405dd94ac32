"""Conversion between values of fields and the texts in their editors.

Invalid text is returned unchanged, and the validation of the settings reports an error
at the field.
"""

from __future__ import annotations

import json
from typing import Any

from ...config.interval import UNITS
from .fields import Field, Kind

__all__ = [
    "SUGGESTIONS",
    "changed_record",
    "choice_text",
    "choices_of",
    "editor_kind",
    "filled_record",
    "interval_parts",
    "interval_value",
    "is_folder",
    "limits_of",
    "lines_value",
    "number_of",
    "placeholder",
    "text_of",
    "units_of",
    "value_of",
]

NOT_SET = "not set"
SUGGESTIONS = {"device": ("auto", "cpu", "cuda", "cuda:0", "cuda:1", "mps", "xpu")}
"""Text fields with common values that are offered as suggestions."""

# Fields for a file, folder or hub model.
_MODEL = "model_name"


def editor_kind(field: Field) -> Kind:
    """Return the kind of the editor of a field."""
    if field.kind is Kind.FLAG and field.optional:
        return Kind.CHOICE
    if field.key.endswith(_MODEL) and field.kind not in (Kind.LINES, Kind.FLAG):
        return Kind.PATH
    return field.kind


def is_folder(field: Field) -> bool:
    """Return whether a path can only be a folder."""
    return field.key.endswith("_dir") or field.key == "path"


def choices_of(field: Field) -> list[Any]:
    """Return the values of a drop-down list."""
    flags = (True, False) if field.kind is Kind.FLAG else ()
    return [*([None] if field.optional else []), *flags, *field.choices]


def choice_text(field: Field, choice: Any) -> str:
    """Return the text of a value in a drop-down list."""
    if choice is None:
        return field.unset_means or NOT_SET
    if isinstance(choice, bool):
        return "on" if choice else "off"
    return str(choice)


def placeholder(field: Field) -> str:
    """Return the text of an empty editor."""
    if field.unset_means:
        return field.unset_means
    if field.default not in (None, "", [], ()):
        return str(field.default)
    return NOT_SET if field.optional else ""


def limits_of(field: Field) -> str:
    """Return the limits of a number as text, or ""."""
    if field.low is None or field.high is None:
        return ""
    return f"{field.low:g} to {field.high:.12g}"


def value_of(field: Field, text: str) -> Any:
    """Parse the text of a number, text, path or JSON. Empty text means not set."""
    empty = not text.strip()
    if empty and field.optional:
        return None
    if field.kind in (Kind.TEXT, Kind.PATH):
        return text
    if empty:
        return field.default
    if field.kind is Kind.JSON:
        return _json_or_text(text)
    return number_of(text, whole=field.kind is Kind.INTEGER)


def text_of(field: Field, value: Any) -> str:
    """Format a value for its editor."""
    if value is None:
        return ""
    if field.kind is Kind.JSON:
        return json.dumps(value, ensure_ascii=False)
    return value if isinstance(value, str) else repr(value)


def units_of(field: Field) -> tuple[str, ...]:
    """Return the units of an interval."""
    return field.choices or UNITS


def interval_parts(field: Field, value: Any) -> tuple[Any, str | None]:
    """Split an interval into its number and its unit. None keeps the shown unit."""
    number, _, unit = str("" if value is None else value).rpartition(" ")
    found = [name for name in units_of(field) if unit and name.startswith(unit.lower())]
    if number and found:
        return number, found[0]
    return value, None if isinstance(value, str) else "steps"


def interval_value(field: Field, text: str, unit: str) -> Any:
    """Return the interval of a number and a unit."""
    if not text.strip():
        return None if field.optional else field.default
    if unit == "steps":
        return number_of(text, whole=True)
    number = number_of(text, whole=False)
    shown = number if isinstance(number, str) else f"{number:.12g}"
    return f"{shown.strip()} {unit}"


def lines_value(field: Field, text: str) -> list[Any]:
    """Return the entries of a list of strings or numbers, one per line."""
    entries = [line.strip() for line in text.splitlines() if line.strip()]
    if field.item not in (Kind.INTEGER, Kind.NUMBER):
        return entries
    whole = field.item is Kind.INTEGER
    return [number_of(entry, whole=whole) for entry in entries]


def number_of(text: str, *, whole: bool) -> Any:
    """Parse a number with a decimal point or comma. Other text is returned unchanged.

    >>> number_of("1e-4", whole=False), number_of("0,5", whole=False)
    (0.0001, 0.5)
    >>> number_of("12", whole=True), number_of("1.5", whole=True)
    (12, 1.5)
    """
    plain = text.strip()
    if plain.count(",") == 1 and "." not in plain:
        plain = plain.replace(",", ".")
    try:
        return int(plain) if whole else float(plain)
    except ValueError:
        pass
    try:
        return float(plain)
    except ValueError:
        return text


def filled_record(record: dict[str, Any], parts: tuple[Field, ...]) -> dict[str, Any]:
    """Return a record with all defaults."""
    return {part.key: record.get(part.key, part.default) for part in parts}


def changed_record(record: dict[str, Any], part: Field, value: Any) -> dict[str, Any]:
    """Return a record with a changed value. Defaults are removed."""
    changed = {key: old for key, old in record.items() if key != part.key}
    if value != part.default:
        changed[part.key] = value
    return changed


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text

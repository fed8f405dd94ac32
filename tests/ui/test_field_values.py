"""Texts of editors and the values that they stand for."""

from __future__ import annotations

import pytest

from stiefel_lora.ui.controllers.field_values import (
    choice_text,
    choices_of,
    editor_kind,
    interval_parts,
    interval_value,
    lines_value,
    placeholder,
    text_of,
    value_of,
)
from stiefel_lora.ui.controllers.fields import Field, Kind


def field(kind: Kind, **values: object) -> Field:
    return Field(key="key", label="Key", doc="", kind=kind, **values)


@pytest.mark.parametrize(
    ("made", "text", "value"),
    [
        (field(Kind.INTEGER, default=3), "12", 12),
        (field(Kind.INTEGER, default=3), "", 3),
        (field(Kind.INTEGER, optional=True), " ", None),
        (field(Kind.NUMBER, default=1.0), "1e-4", 1e-4),
        (field(Kind.NUMBER, default=1.0), "fast", "fast"),
        (field(Kind.TEXT, default="a"), "", ""),
        (field(Kind.JSON), '{"a": 1}', {"a": 1}),
        (field(Kind.JSON), "{", "{"),
    ],
)
def test_value_of_a_text(made, text, value):
    assert value_of(made, text) == value


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (Kind.NUMBER, 1e-4, "0.0001"),
        (Kind.TEXT, None, ""),
        (Kind.JSON, {"a": "ä"}, '{"a": "ä"}'),
        (Kind.INTEGER, "x", "x"),
    ],
)
def test_text_of_a_value(kind, value, text):
    assert text_of(field(kind), value) == text


def test_intervals_have_a_number_and_a_unit():
    made = field(Kind.INTERVAL, choices=("steps", "epochs", "minutes"))
    assert interval_parts(made, 40) == (40, "steps")
    assert interval_parts(made, "2 epochs") == ("2", "epochs")
    assert interval_parts(made, "soon") == ("soon", None)
    assert interval_value(made, "40", "steps") == 40
    assert interval_value(made, "0,5", "epochs") == "0.5 epochs"


def test_choices_include_unset_and_flags():
    made = field(Kind.FLAG, optional=True, unset_means="automatic")
    assert editor_kind(made) is Kind.CHOICE
    assert [choice_text(made, c) for c in choices_of(made)] == [
        "automatic",
        "on",
        "off",
    ]


def test_lines_and_placeholder():
    made = field(Kind.LINES, item=Kind.INTEGER, default=[])
    assert lines_value(made, " 1\n\n2 ") == [1, 2]
    assert placeholder(field(Kind.NUMBER, default=0.5)) == "0.5"
    assert placeholder(field(Kind.NUMBER, optional=True)) == "not set"

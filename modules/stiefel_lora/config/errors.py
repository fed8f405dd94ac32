"""Pydantic's errors as sentences in the words of the user."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .optimizer import OPTIMIZER_MODELS
from .parts import Concept, Sample
from .suggestions import nearest, suggest_key

__all__ = ["sentences"]

EXAMPLE_OPTIMIZER = '{"name": "stiefel_lora"}'


def sentences(error: ValidationError, top_level: list[str]) -> list[str]:
    """One sentence an error; ``top_level`` are the keys of the whole schema."""
    found = [_sentence(detail, top_level) for detail in error.errors()]
    return [sentence for sentence in found if sentence]


def _sentence(detail: ErrorDetails, top_level: list[str]) -> str | None:
    kind = detail["type"]
    if kind == "default_factory_not_called":
        return None  # A follow-up of an error that has its own sentence.
    if kind == "rule":
        return detail["msg"]
    path = _path(detail["loc"])
    if kind == "extra_forbidden":
        return _unknown_key(detail["loc"], top_level)
    if kind == "missing":
        return f"{path} is missing: every entry needs it."
    if path == "optimizer":
        return _optimizer(detail)
    return f"{path}={_shown(detail['input'])} {_rule(detail)}."


def _path(loc: tuple[int | str, ...]) -> str:
    """Dotted path; the tag that pydantic puts behind a union's key is left out."""
    parts = list(loc)
    if len(parts) > 1 and parts[0] == "optimizer" and parts[1] in OPTIMIZER_MODELS:
        del parts[1]
    return ".".join(str(part) for part in parts)


def _shown(value: Any) -> str:
    """The value as it would be written in the file, shortened."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _known_keys(loc: tuple[int | str, ...], top_level: list[str]) -> list[str]:
    if len(loc) == 1:
        return top_level
    if loc[0] == "optimizer":
        fields = OPTIMIZER_MODELS[str(loc[1])].model_fields
        return [field.alias or name for name, field in fields.items()]
    return list((Sample if loc[0] == "samples" else Concept).model_fields)


def _unknown_key(loc: tuple[int | str, ...], top_level: list[str]) -> str:
    key = str(loc[-1])
    parent = _path(loc)[: -len(key)]
    known = _known_keys(loc, top_level)
    near = suggest_key(key, known)
    if near is None and len(loc) == 1:
        near = _optimizer_option(key)
    if near:
        return f"There is no key {parent}{key!s}; did you mean {parent}{near}?"
    listed = ", ".join(known)
    where = f"{parent.rstrip('.')} knows" if parent else "The keys are"
    return f"There is no key {parent}{key}. {where} {listed}."


def _optimizer_option(key: str) -> str | None:
    options = {
        name for model in OPTIMIZER_MODELS.values() for name in model.model_fields
    }
    near = nearest(key, options - {"name", "options", "class_path"})
    return f"optimizer.{near}" if near else None


def _optimizer(detail: ErrorDetails) -> str:
    known = ", ".join(OPTIMIZER_MODELS)
    if detail["type"] == "union_tag_invalid":
        tag = str(detail.get("ctx", {}).get("tag"))
        near = nearest(tag, OPTIMIZER_MODELS)
        hint = f"did you mean {near}?" if near else f"there are {known}."
        return f"There is no optimizer {tag!r}; {hint}"
    if detail["type"] == "union_tag_not_found":
        return f"optimizer.name is missing: write one of {known}."
    value = detail["input"]
    example = (
        json.dumps({"name": value}) if value in OPTIMIZER_MODELS else EXAMPLE_OPTIMIZER
    )
    return f"optimizer={_shown(value)} must be an object such as {example}."


def _choice(detail: ErrorDetails) -> str:
    expected = detail.get("ctx", {})["expected"]
    words = [word.strip("' ") for word in expected.replace(" or ", ", ").split(", ")]
    near = nearest(str(detail["input"]), words)
    hint = f"; did you mean {near}" if near else ""
    end = "?" if near else ""
    return f"must be one of {', '.join(words)}{hint}{end}"


RULES: dict[str, Callable[[ErrorDetails], str]] = {
    "bool_type": lambda detail: "must be true or false",
    "int_type": lambda detail: "must be a whole number",
    "float_type": lambda detail: "must be a number",
    "finite_number": lambda detail: "must be a finite number",
    "string_type": lambda detail: "must be a text in double quotes",
    "path_type": lambda detail: "must be a path in double quotes",
    "tuple_type": lambda detail: "must be a list in [ ]",
    "dict_type": lambda detail: "must be an object in { }",
    "model_type": lambda detail: "must be an object in { }",
    "greater_than": lambda detail: f"must be more than {_bound(detail, 'gt')}",
    "greater_than_equal": lambda detail: f"must be at least {_bound(detail, 'ge')}",
    "less_than": lambda detail: f"must be less than {_bound(detail, 'lt')}",
    "less_than_equal": lambda detail: f"must be at most {_bound(detail, 'le')}",
    "multiple_of": lambda detail: (
        f"must be a multiple of {_bound(detail, 'multiple_of')}"
    ),
    "string_too_short": lambda detail: "must not be empty",
    "too_short": lambda detail: "must not be empty",
    "literal_error": _choice,
}


def _bound(detail: ErrorDetails, name: str) -> str:
    value = detail.get("ctx", {})[name]
    return str(value) if isinstance(value, int) else f"{value:g}"


def _rule(detail: ErrorDetails) -> str:
    known = RULES.get(detail["type"])
    return known(detail) if known else f"is not accepted ({detail['msg']})"

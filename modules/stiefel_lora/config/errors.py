"""Pydantic's errors as sentences in the words of the user."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ..methods.plugins import TYPO
from .concept import Concept
from .optimizer import OPTIMIZER_MODELS
from .parts import Sample
from .suggestions import nearest, no_counterpart, suggest_key

__all__ = ["located_sentences", "sentences", "shown_value"]

Location = tuple[int | str, ...]


def sentences(error: ValidationError, top_level: list[str]) -> list[str]:
    """One sentence an error; ``top_level`` are the keys of the whole schema."""
    return [sentence for _, sentence in located_sentences(error, top_level)]


def located_sentences(
    error: ValidationError, top_level: list[str]
) -> list[tuple[str, str]]:
    """Sentences with the dotted path of their value; "" for rules that span fields."""
    found = [
        (_path(detail["loc"]), _sentence(detail, top_level))
        for detail in error.errors()
    ]
    return [(path, sentence) for path, sentence in found if sentence]


def _sentence(detail: ErrorDetails, top_level: list[str]) -> str | None:
    kind, path = detail["type"], _path(detail["loc"])
    # Both follow from another error, which has its own sentence.
    emptied = kind == "too_short" and detail["input"]
    if kind == "default_factory_not_called" or emptied:
        return None
    if kind == "rule":
        return detail["msg"]
    if kind == "extra_forbidden":
        return _unknown_key(detail["loc"], top_level)
    if kind == "missing":
        return f"{path} is missing and has no default: write it."
    if path == "optimizer":
        return _optimizer(detail)
    shown = f"{path}={shown_value(detail['input'])}"
    if kind == "literal_error":
        return f"{shown} {_choice(detail)}"
    return f"{shown} {_rule(kind, path, detail)}."


def _path(loc: Location) -> str:
    """Dotted path; the tag that pydantic puts behind a union's key is left out."""
    parts = list(loc)
    if len(parts) > 1 and parts[0] == "optimizer" and parts[1] in OPTIMIZER_MODELS:
        del parts[1]
    return ".".join(_word(str(part)) for part in parts)


def _word(key: str) -> str:
    """A key as it is, or in quotes when one could not see it otherwise."""
    visible = key.isprintable() and key.strip() == key and key
    return key if visible else ascii(key)


def shown_value(value: Any) -> str:
    """The value as it would be written in the file, shortened."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unknown_key(loc: Location, top_level: list[str]) -> str:
    key = str(loc[-1])
    path = _path(loc)
    parent = path[: len(path) - len(_word(key))]
    section = _section(loc)
    sections = _sections(loc, top_level)
    near = suggest_key(key, section, sections)
    if near:
        place = parent if near in sections[section] else ""
        unit = " It counts steps." if "epoch" in key.lower() else ""
        return f"There is no key {path}; did you mean {place}{near}?{unit}"
    reason = no_counterpart(key)
    if reason:
        return f"There is no key {path}; it has no counterpart here, because {reason}."
    if not parent:
        return f"There is no key {path}; stiefel-lora schema lists all keys."
    owners = _methods_with(key) if section == "optimizer" else []
    if owners:
        return (
            f"There is no key {path} for {loc[1]}; it is an option of "
            f"{', '.join(owners)}."
        )
    return f"There is no key {path}; there are {', '.join(sections[section])}."


def _section(loc: Location) -> str:
    if len(loc) == 1:
        return ""
    return {"optimizer": "optimizer", "samples": "samples"}.get(str(loc[0]), "concepts")


def _sections(loc: Location, top_level: list[str]) -> dict[str, list[str]]:
    """Keys of all sections; inside an optimizer those of its method alone."""
    models = OPTIMIZER_MODELS
    if _section(loc) == "optimizer":
        models = {str(loc[1]): OPTIMIZER_MODELS[str(loc[1])]}
    options = {
        field.alias or name: None
        for model in models.values()
        for name, field in model.model_fields.items()
    }
    return {
        "": top_level,
        "optimizer": list(options),
        "concepts": list(Concept.model_fields),
        "samples": list(Sample.model_fields),
    }


def _methods_with(option: str) -> list[str]:
    """Names of the optimizers that have ``option``."""
    return [
        name
        for name, model in OPTIMIZER_MODELS.items()
        if any(
            option == (field.alias or attribute)
            for attribute, field in model.model_fields.items()
        )
    ]


def _optimizer(detail: ErrorDetails) -> str:
    known = ", ".join(OPTIMIZER_MODELS)
    if detail["type"] == "union_tag_invalid":
        tag = str(detail.get("ctx", {}).get("tag"))
        near = nearest(tag, OPTIMIZER_MODELS)
        hint = f"did you mean {near}?" if near else f"there are {known}."
        if nearest(tag, OPTIMIZER_MODELS, TYPO) is None:
            hint += (
                " If a plug-in adds it, name the file or module of the plug-in in "
                "plugins, or with --plugin."
            )
        return f"There is no optimizer {tag!r}; {hint}"
    if detail["type"] == "union_tag_not_found":
        return f"optimizer.name is missing: write one of {known}."
    value = detail["input"]
    name = nearest(value, OPTIMIZER_MODELS) if isinstance(value, str) else None
    example = json.dumps({"name": name or "stiefel_lora"})
    return f"optimizer={shown_value(value)} must be an object such as {example}."


def _choice(detail: ErrorDetails) -> str:
    expected = detail.get("ctx", {})["expected"]
    words = [word.strip("' ") for word in expected.replace(" or ", ", ").split(", ")]
    near = nearest(str(detail["input"]), words)
    hint = f"; did you mean {near}?" if near else "."
    rule = f"one of {', '.join(words)}" if len(words) > 1 else words[0]
    return f"must be {rule}{hint}"


# The end of a sentence by pydantic's error type; braces are filled from its context.
RULES = {
    "bool_type": "must be true or false",
    "dict_type": "must be an object in {{ }}",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:.12g}",
    "model_type": "must be an object in {{ }}",
    "multiple_of": "must be a multiple of {multiple_of:g}",
    "path_type": "must be a path in double quotes",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "string_type": "must be a text in double quotes",
    "string_unicode": "must be valid Unicode text",
    "too_short": "must not be empty",
    "tuple_type": "must be a list in [ ]",
    "unusable_path": "{problem}",
}
PATTERN_RULES = {"device": "must be auto, cpu, cuda, cuda:0 (a number), mps or xpu"}


def _rule(kind: str, path: str, detail: ErrorDetails) -> str:
    if kind == "string_pattern_mismatch" and path in PATTERN_RULES:
        return PATTERN_RULES[path]
    if kind in RULES:
        return RULES[kind].format(**detail.get("ctx", {}))
    return f"is not accepted ({detail['msg']})"

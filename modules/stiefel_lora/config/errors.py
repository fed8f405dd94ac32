"""Conversion of pydantic errors to violations with error messages."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ..methods import find_record, no_decay_of
from ..methods.plugins import TYPO
from .concept import Concept
from .epochs import INTERVALS
from .optimizer import OPTIMIZER_MODELS
from .parts import Sample
from .suggestions import nearest, no_counterpart, suggest_key
from .violation import Violation

__all__ = ["shown_value", "violations_in"]

Location = tuple[int | str, ...]


def violations_in(error: ValidationError, top_level: list[str]) -> list[Violation]:
    """Convert pydantic errors to violations. ``top_level``: the top-level keys."""
    found: list[Violation] = []
    for detail in error.errors():
        if detail["type"] == "rule":
            parent = _path(detail["loc"])
            found += [rule.inside(parent) for rule in detail["ctx"]["violations"]]
        elif not _follows_from_another(detail):
            found.append(_violation(detail, top_level))
    return found


def _follows_from_another(detail: ErrorDetails) -> bool:
    """Return whether an error is caused by another error, which is also reported."""
    # pydantic does not compute a default from an invalid field, and a list whose
    # entries are all invalid counts as too short.
    emptied = detail["type"] == "too_short" and detail["input"]
    return bool(detail["type"] == "default_factory_not_called" or emptied)


def _violation(detail: ErrorDetails, top_level: list[str]) -> Violation:
    kind, path = detail["type"], _path(detail["loc"])
    if kind == "extra_forbidden":
        return _unknown_key(detail["loc"], top_level)
    if kind == "missing":
        return Violation(path, "is missing and has no default", "Set it")
    if path == "optimizer":
        return _optimizer(detail)
    shown = shown_value(detail["input"])
    if kind == "literal_error":
        return _choice(path, shown, detail)
    return Violation(path, _rule(kind, path, shown, detail))


def _path(loc: Location) -> str:
    """Return the dotted key, without the tags that pydantic adds for unions."""
    parts = list(loc)
    if len(parts) > 1 and parts[0] == "optimizer" and parts[1] in OPTIMIZER_MODELS:
        del parts[1]
    return ".".join(_word(str(part)) for part in parts)


def _word(key: str) -> str:
    """Return a key, with quotes if it is empty or contains spaces."""
    visible = key.isprintable() and key.strip() == key and key
    return key if visible else ascii(key)


def shown_value(value: Any) -> str:
    """Return a value as in a config file, shortened to 60 characters."""
    try:
        text = json.dumps(value, ensure_ascii=False)
        text = text if text.isprintable() else json.dumps(value)
    except (TypeError, ValueError):
        text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unknown_key(loc: Location, top_level: list[str]) -> Violation:
    path = _path(loc)
    return Violation(path, "unknown key", _instead_of(loc, path, top_level))


def _instead_of(loc: Location, path: str, top_level: list[str]) -> str:
    """Return the fix for a key that does not exist."""
    key = str(loc[-1])
    parent = path[: len(path) - len(_word(key))]
    section = _section(loc)
    sections = _sections(loc, top_level)
    entry = find_record(str(loc[1])) if section == "optimizer" else None
    reason = no_decay_of(entry, key) if entry is not None else None
    if reason:
        return f"It is not supported by {loc[1]}, because {reason}"
    near = suggest_key(key, section, sections)
    if near:
        place = parent if near in sections[section] else ""
        counts_epochs = "epoch" in key.lower() and near in INTERVALS
        unit = ' Write the unit as well: "2 epochs".' if counts_epochs else ""
        return f"Did you mean {place}{near}?{unit}"
    reason = no_counterpart(key)
    if reason:
        return f"This setting is not supported: {reason}"
    if not parent:
        return "All keys are listed by stiefel-lora schema"
    owners = _methods_with(key) if section == "optimizer" else []
    if owners:
        return f"It is an option of {', '.join(owners)}, but not of {loc[1]}"
    return f"Valid keys are {', '.join(sections[section])}"


def _section(loc: Location) -> str:
    if len(loc) == 1:
        return ""
    return {"optimizer": "optimizer", "samples": "samples"}.get(str(loc[0]), "concepts")


def _sections(loc: Location, top_level: list[str]) -> dict[str, list[str]]:
    """Return the keys of all sections, with the options of the selected method."""
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
    """Return the names of the optimizers that have an option."""
    return [
        name
        for name, model in OPTIMIZER_MODELS.items()
        if any(
            option == (field.alias or attribute)
            for attribute, field in model.model_fields.items()
        )
    ]


def _optimizer(detail: ErrorDetails) -> Violation:
    known = ", ".join(OPTIMIZER_MODELS)
    if detail["type"] == "union_tag_invalid":
        return _unknown_optimizer(str(detail.get("ctx", {}).get("tag")), known)
    if detail["type"] == "union_tag_not_found":
        return Violation("optimizer.name", "is missing", f"Set it to one of {known}")
    value = detail["input"]
    name = nearest(value, OPTIMIZER_MODELS) if isinstance(value, str) else None
    example = json.dumps({"name": name or "stiefel_lora"})
    shown = shown_value(value)
    return Violation(
        "optimizer", f"must be an object such as {example}, but got {shown}"
    )


def _unknown_optimizer(name: str, known: str) -> Violation:
    near = nearest(name, OPTIMIZER_MODELS)
    fix = f"Did you mean {near}?" if near else f"Available are {known}."
    if nearest(name, OPTIMIZER_MODELS, TYPO) is None:
        fix += (
            " If it is defined in a plugin, add the file or module of the plugin to "
            "plugins or pass it with --plugin."
        )
    return Violation("optimizer.name", f"unknown optimizer {name!r}", fix)


def _choice(path: str, shown: str, detail: ErrorDetails) -> Violation:
    expected = detail.get("ctx", {})["expected"]
    words = [word.strip("' ") for word in expected.replace(" or ", ", ").split(", ")]
    near = nearest(str(detail["input"]), words)
    rule = f"one of {', '.join(words)}" if len(words) > 1 else words[0]
    fix = f"Did you mean {near}?" if near else ""
    return Violation(path, f"must be {rule}, but got {shown}", fix)


# Rule by pydantic's error type; braces are filled from its context and the value.
RULES = {
    "bool_type": "must be true or false, but got {shown}",
    "dict_type": "must be an object in {{ }}, but got {shown}",
    "finite_number": "must be a finite number, but got {shown}",
    "float_type": "must be a number, but got {shown}",
    "greater_than": "must be greater than {gt:g}, but got {shown}",
    "interval": "{problem}, but got {shown}",
    "greater_than_equal": "must be at least {ge:g}, but got {shown}",
    "int_type": "must be an integer, but got {shown}",
    "less_than": "must be less than {lt:g}, but got {shown}",
    "less_than_equal": "must be at most {le:.12g}, but got {shown}",
    "model_type": "must be an object in {{ }}, but got {shown}",
    "multiple_of": "must be a multiple of {multiple_of:g}, but got {shown}",
    "path_type": "must be a path in double quotes, but got {shown}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "background": "{problem}, but got {shown}",
    "extension": "{problem}, but got {shown}",
    "string_type": "must be a string in double quotes, but got {shown}",
    "string_unicode": "must be valid Unicode text, but got {shown}",
    "too_short": "must not be empty",
    "trigger": "{problem}, but got {shown}",
    "tuple_type": "must be a list in [ ], but got {shown}",
    "unusable_path": "{problem}, but got {shown}",
}
PATTERN_RULES = {
    "device": (
        "must be auto, cpu, cuda, cuda:0 (with any number), mps or xpu, but got {shown}"
    )
}


def _rule(kind: str, path: str, shown: str, detail: ErrorDetails) -> str:
    if kind == "string_pattern_mismatch" and path in PATTERN_RULES:
        return PATTERN_RULES[path].format(shown=shown)
    if kind == "too_long":
        # Text whose type has a validator is counted as a list is.
        items = "characters" if isinstance(detail["input"], str) else "entries"
        return f"must have at most {detail['ctx']['max_length']} {items}"
    if kind in RULES:
        return RULES[kind].format(**detail.get("ctx", {}), shown=shown)
    return f"invalid value {shown} ({detail['msg']})"

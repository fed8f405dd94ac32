"""Common types and functions of the schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError, PydanticUndefined

from .path_text import path_problem
from .violation import Violation

__all__ = [
    "Count",
    "Flag",
    "FolderPath",
    "Number",
    "PathText",
    "Seed",
    "StrictModel",
    "Text",
    "Values",
    "broken_rule",
    "setting",
]

MAX_COUNT = 100_000_000

# Strict: "200", true and 200.5 are rejected where a whole number is expected.
Count = Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT)]
Seed = Annotated[int, Field(strict=True, ge=0, le=2**32 - 1)]
Number = Annotated[float, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]


def _not_empty(value: Any) -> Any:
    # Path("") is the current folder, never the intent behind an empty field.
    if value == "":
        raise PydanticCustomError("string_too_short", "must not be empty")
    return value


def _usable(value: Any) -> Any:
    problem = path_problem(str(value))
    if problem:
        raise PydanticCustomError("unusable_path", "{problem}", {"problem": problem})
    return value


FolderPath = Annotated[
    Path,
    BeforeValidator(_not_empty, json_schema_input_type=Path),
    AfterValidator(_usable),
]
PathText = Annotated[str, Field(min_length=1), AfterValidator(_usable)]
"""A path, or a name on the Hugging Face Hub."""


def _encodable(value: Any) -> Any:
    """Check that a text is valid Unicode, without lone surrogates."""
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeEncodeError:
        raise PydanticCustomError(
            "string_unicode", "must be valid Unicode text"
        ) from None
    return value


Text = Annotated[str, AfterValidator(_encodable)]
"""A text that is valid Unicode."""

Values = Annotated[dict[str, Any], AfterValidator(_encodable)]
"""Mapping of names to JSON values."""


def setting(
    default: Any = PydanticUndefined,
    *,
    label: str,
    unset_means: str = "",
    default_factory: Callable[..., Any] | None = None,
    description: str | None = None,
) -> Any:
    """Declare a setting with its default, label and documentation.

    Args:
        default: default value. A setting without a default is required.
        label: label in forms. It is the same as in OneTrainer if it has the setting.
        unset_means: value that is used if the setting is not set, displayed in the
            empty editor.
        default_factory: function that computes the default from the previous settings.
        description: documentation of a setting without a docstring.
    """
    extra: dict[str, Any] = {"unset_means": unset_means} if unset_means else {}
    shown: dict[str, Any] = {
        "title": label,
        "description": description,
        "json_schema_extra": extra,
    }
    if default_factory is not None:
        return Field(default_factory=default_factory, **shown)
    return Field(default, **shown)


class StrictModel(BaseModel):
    """Base class for all models of the schema: frozen, without extra keys.

    Numbers must be finite. The docstring of a field is its description.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
    )


def broken_rule(*violations: Violation) -> PydanticCustomError:
    """Create the error of a validator. Keys are relative to the validated model."""
    message = "\n".join(str(violation) for violation in violations)
    context = {"message": message, "violations": violations}
    return PydanticCustomError("rule", "{message}", context)

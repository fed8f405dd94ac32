"""Types and declarations that every part of the schema shares."""

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
"""A path, or a name that may also be one."""


def _encodable(value: Any) -> Any:
    """Reject lone surrogates. Pydantic does so only where a text has limits."""
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeEncodeError:
        raise PydanticCustomError(
            "string_unicode", "must be valid Unicode text"
        ) from None
    return value


Text = Annotated[str, AfterValidator(_encodable)]
"""Any text that can be written to a file."""

Values = Annotated[dict[str, Any], AfterValidator(_encodable)]
"""Values of any kind by name."""


def setting(
    default: Any = PydanticUndefined,
    *,
    label: str,
    unset_means: str = "",
    default_factory: Callable[..., Any] | None = None,
    description: str | None = None,
) -> Any:
    """Declare a field with what forms and the docs show about it.

    Args:
        default: value if the field is not set. A field without a default is required.
        label: label in forms, equal to the label in OneTrainer if it has the setting.
        unset_means: effect if the field is not set, shown in the empty editor.
        default_factory: function that computes the default from the preceding fields.
        description: documentation of a field without a docstring.
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
    """Base of all models: frozen, no extra keys, finite numbers.

    The text below a field is its description.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
    )


def broken_rule(*violations: Violation) -> PydanticCustomError:
    """Make the error of a validator. Keys are relative to the model it validates."""
    message = "\n".join(str(violation) for violation in violations)
    context = {"message": message, "violations": violations}
    return PydanticCustomError("rule", "{message}", context)

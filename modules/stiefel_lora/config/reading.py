"""Reading of a JSON object from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .._exceptions import ConfigError
from .._text import not_text, read_text
from .file_kind import other_kind
from .path_text import path_problem

__all__ = ["read_json"]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        ConfigError: If the file does not exist, is not valid UTF-8 or JSON, contains a
            duplicate key, or does not contain an object.
    """
    try:
        return _read_object(path)
    except ConfigError as error:
        other = other_kind(path) if path_problem(str(path)) is None else None
        if other is None:
            raise
        raise ConfigError(other) from error


def _read_object(path: Path) -> dict[str, Any]:
    text = _read_text(path)
    try:
        data = json.loads(text, object_pairs_hook=_without_doubles)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path} is not valid JSON at line {error.lineno}, column {error.colno}: "
            f"{error.msg}."
        ) from None
    except RecursionError:
        raise ConfigError(
            f"{path}: lists and objects are nested too deep. The expected form of "
            "each value is shown by stiefel-lora schema."
        ) from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except ValueError:
        # int() rejects numbers of more than 4,300 digits; json passes that error on.
        raise ConfigError(
            f"{path}: an integer has too many digits. Use a smaller number."
        ) from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must contain a JSON object in {{ }}.")
    return data


def _read_text(path: Path) -> str:
    problem = path_problem(str(path))
    if problem:
        raise ConfigError(f"{str(path)!a} is not a path: it {problem}.")
    try:
        return read_text(path)
    except FileNotFoundError:
        raise ConfigError(
            f"The file {path} does not exist. Run stiefel-lora presets to list all "
            "presets."
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is {not_text(error, 'UTF-8 text')}. Save it as UTF-8."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ConfigError(
            f"The key {double} occurs twice in the same object. Remove one of them."
        )
    return data

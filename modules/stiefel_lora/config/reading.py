"""Strict reading of a JSON object from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .._exceptions import ConfigError
from .._text import not_text, read_text
from .path_text import path_problem

__all__ = ["read_json"]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        ConfigError: no such file, not UTF-8, invalid JSON (with line and column), a
            duplicate key, or a value other than an object.
    """
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
            f"{path}: lists and objects are nested too deep to be read. Write the "
            f"values as stiefel-lora schema shows them."
        ) from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except ValueError:
        # int() rejects numbers of more than 4,300 digits; json passes that error on.
        raise ConfigError(
            f"{path}: a whole number has thousands of digits. Write a smaller one."
        ) from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold one JSON object in {{ }}.")
    return data


def _read_text(path: Path) -> str:
    problem = path_problem(str(path))
    if problem:
        raise ConfigError(f"{str(path)!a} is not a path: it {problem}.")
    try:
        return read_text(path)
    except FileNotFoundError:
        raise ConfigError(
            f"There is no file {path}; stiefel-lora presets lists the presets."
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is {not_text(error, 'UTF-8 text')}: save it as UTF-8."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"The key {double} occurs twice in one object. Keep one.")
    return data

"""Reading of configuration files of other programs: JSON, TOML, YAML, command lines."""

from __future__ import annotations

import contextlib
import contextvars
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..._exceptions import ConfigError
from ..._text import not_text, read_text
from ..file_kind import other_kind
from ..path_text import path_problem
from ..plain import check_plain
from ..reading import read_json

__all__ = [
    "literal",
    "near",
    "options_in",
    "parse_toml",
    "plain_text",
    "read_json_value",
    "read_source",
    "source_text",
    "without_other_files",
]


_WANTED = "a config file of another trainer"
_alone = contextvars.ContextVar("alone", default=False)


def source_text(path: Path, wanted: str = _WANTED) -> str:
    """Read a text file.

    Args:
        path: path of the file.
        wanted: kind of file, for the message about a folder or an image.

    Raises:
        ConfigError: If it does not exist, is empty or not UTF-8.
    """
    try:
        return plain_text(path)
    except ConfigError as error:
        other = None
        if path_problem(str(path)) is None:
            other = other_kind(path, wanted=wanted)
        if other is None:
            raise
        raise ConfigError(other) from error


def plain_text(path: Path) -> str:
    """Read a text file that is not a configuration.

    Raises:
        ConfigError: If it does not exist, is empty or not UTF-8.
    """
    problem = path_problem(str(path))
    if problem:
        raise ConfigError(f"{str(path)!a} is not a path: it {problem}.")
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise ConfigError(f"The file {path} does not exist.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is {not_text(error, 'UTF-8 text')}. Save it as UTF-8."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    if not text.strip():
        raise ConfigError(f"{path} is empty.")
    return text


def read_source(path: Path, wanted: str = _WANTED) -> dict[str, Any]:
    """Read a JSON, TOML or YAML file that contains an object.

    Raises:
        ConfigError: If it is not valid. The message has the line.
    """
    kind = path.suffix.lower()
    text = source_text(path, wanted)
    if kind == ".toml":
        data: Any = parse_toml(text, path)
    elif kind in (".yaml", ".yml"):
        data = _yaml(text, path)
    else:
        data = read_json(path)
    if not isinstance(data, dict):
        raise ConfigError(f"{path} is not a configuration: it has no keys.")
    check_plain(data)
    return data


def read_json_value(path: Path, wanted: str = _WANTED) -> Any:
    """Read any JSON value from a file.

    Raises:
        ConfigError: If the file cannot be read, or is not valid JSON.
    """
    text = source_text(path, wanted)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path} is not valid JSON at line {error.lineno}, column {error.colno}: "
            f"{error.msg}."
        ) from None
    except (RecursionError, ValueError):
        raise ConfigError(f"{path} is not valid JSON.") from None


def parse_toml(text: str, path: Path) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ConfigError: If it is not valid TOML. The message has the line.
    """
    try:
        import tomllib
    except ModuleNotFoundError:
        raise ConfigError(
            f"{path} cannot be read: TOML requires Python 3.11 or newer."
        ) from None
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None


def _yaml(text: str, path: Path) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise ConfigError(
            f"{path} cannot be read: YAML requires the package PyYAML. Install it "
            "with: pip install PyYAML"
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise ConfigError(f"{path} is not valid YAML{where}: {problem}.") from None
    except (RecursionError, ValueError):
        raise ConfigError(f"{path} is not valid YAML.") from None


_CONTINUED = re.compile(r"[\\^`]\r?\n")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def options_in(
    words: str | Iterable[str], where: str
) -> tuple[list[str], dict[str, Any]]:
    """Split a command line into the words in front of the options, and the options.

    Options of a launcher in front of the script are returned under ``launcher``.

    Raises:
        ConfigError: If a quote is not closed, or there are no options.
    """
    if isinstance(words, str):
        words = _words(words, where)
    front: list[str] = []
    options: dict[str, Any] = {}
    values: list[str] | None = None
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            values = [value] if equals else []
            options[name.replace("-", "_")] = values
        elif word.endswith(".py"):
            front.append(word)
            if options:
                options = {"launcher": _values(options)}
            values = None
        elif values is None:
            front.append(word)
        else:
            values.append(word)
    if not options:
        raise ConfigError(f"{where} contains no options such as --network_dim 16.")
    launcher = options.pop("launcher", None)
    found = _values(options)
    return front, {**({"launcher": launcher} if launcher else {}), **found}


def _words(text: str, where: str) -> list[str]:
    # Backslashes belong to Windows paths, except at the end of a line.
    lexer = shlex.shlex(_CONTINUED.sub(" ", text), posix=True)
    lexer.whitespace_split, lexer.escape, lexer.commenters = True, "", ""
    try:
        return list(lexer)
    except ValueError:
        raise ConfigError(f"{where}: a quotation mark is not closed.") from None


def _values(options: dict[str, list[str]]) -> dict[str, Any]:
    return {key: _value(words) for key, words in options.items()}


def _value(words: list[str]) -> Any:
    if not words:
        return True
    found = [literal(word) for word in words]
    return found[0] if len(found) == 1 else found


def literal(word: str) -> Any:
    """Return a word as a number, truth value, list of them or text.

    >>> literal("0.9,0.99"), literal("True"), literal("cosine")
    ([0.9, 0.99], True, 'cosine')
    """
    word = word.strip("\"'")
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    parts = word.strip("()[]").split(",")
    if len(parts) > 1 and all(_NUMBER.fullmatch(part.strip()) for part in parts):
        return [literal(part.strip()) for part in parts]
    if not _NUMBER.fullmatch(word) or len(word) > 30:
        return word
    return float(word) if any(sign in word for sign in ".eE") else int(word)


@contextlib.contextmanager
def without_other_files() -> Iterator[None]:
    """Read no files that a configuration names, inside a ``with`` block.

    A file that comes from a browser could otherwise name one of the server, whose
    content would be part of the settings or of the report.
    """
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def near(name: str, folder: Path) -> Path | None:
    """Return the path of a file that a configuration names, or None.

    It is looked for in the folder of the configuration, in the folder above, as in
    OneTrainer, and in the current folder; the last one by its name, too.
    """
    if path_problem(name) or _alone.get():
        return None
    inside = name.replace("\\", "/")
    for place in (folder / inside, folder.parent / inside, Path(inside)):
        if place.is_file():
            return place
    beside = folder / Path(inside).name
    return beside if beside.is_file() else None

"""Import of a file or a command line of another program."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..._exceptions import ConfigError
from ..path_text import expanded
from .from_ai_toolkit import from_ai_toolkit, is_ai_toolkit
from .from_kohya_gui import from_kohya_gui, is_kohya_gui
from .from_onetrainer import from_onetrainer, is_onetrainer
from .from_sd_scripts import from_sd_scripts, is_sd_scripts
from .lean_result import Imported
from .shell_variables import unset_variables, with_variables
from .source_files import options_in, read_json_value, read_source, source_text

__all__ = ["import_file", "import_words", "is_of_other_program"]

_PROGRAMS = {
    ".json": "OneTrainer or kohya_ss",
    ".toml": "sd-scripts",
    ".yaml": "ai-toolkit",
    ".yml": "ai-toolkit",
}
_CONFIGS = (".json", ".toml", ".yaml", ".yml")


def is_of_other_program(path: Path) -> bool:
    """Return whether a file is to be imported, and not loaded as a configuration."""
    if path.suffix.lower() != ".json":
        return True
    try:
        data = read_source(path)
    except ConfigError:
        # The error is shown when the file is loaded.
        return False
    return is_onetrainer(data) or is_kohya_gui(data) or is_ai_toolkit(data)


def import_file(path: str | Path, family: str | None = None) -> Imported:
    """Import a configuration file, or a text file with a command line.

    Args:
        path: path of a .json, .toml, .yaml or text file.
        family: family of the base model. By default, it is read from the file.

    Raises:
        ConfigError: If the file cannot be read, or no program is known for it.
    """
    path = expanded(path)
    if path.suffix.lower() not in _CONFIGS:
        front, options = options_in(with_variables(source_text(path)), str(path))
        return _command(front, options, path.parent, family)
    found = read_json_value(path) if path.suffix.lower() == ".json" else None
    if isinstance(found, list) and not any(isinstance(each, dict) for each in found):
        what = "an empty list" if not found else "a list without keys"
        raise ConfigError(
            f"{path} is {what}, but a config file of {_PROGRAMS['.json']} is required."
        )
    if isinstance(found, list):
        raise ConfigError(
            f"{path} contains concepts or samples only. Import the configuration that "
            "names it."
        )
    return _imported(read_source(path), path, family)


def import_words(words: Sequence[str], family: str | None = None) -> Imported:
    """Import a command line of sd-scripts, with the script or without.

    Raises:
        ConfigError: If it contains no options, or a file that it names is missing.
    """
    front, options = options_in(words, "The command line")
    return _command(front, options, Path.cwd(), family)


def _command(
    front: list[str], options: dict[str, Any], folder: Path, family: str | None
) -> Imported:
    script = next((word for word in reversed(front) if word.endswith(".py")), "")
    found = from_sd_scripts(options, folder=folder, script=script, family=family)
    notes = [
        f"The variable {name} has no value here. Replace it in the settings of "
        f"{', '.join(keys)}."
        for name, keys in unset_variables(options).items()
    ]
    report = dataclasses.replace(found.report, notes=(*found.report.notes, *notes))
    return dataclasses.replace(found, report=report)


def _imported(data: Mapping[str, Any], path: Path, family: str | None) -> Imported:
    kind = path.suffix.lower()
    if kind == ".toml" and is_sd_scripts(data):
        return from_sd_scripts(data, folder=path.parent, family=family)
    if is_ai_toolkit(data):
        return from_ai_toolkit(data, path=path, family=family)
    if is_kohya_gui(data):
        return from_kohya_gui(data, folder=path.parent, family=family)
    if is_onetrainer(data):
        return from_onetrainer(data, folder=path.parent, family=family)
    raise ConfigError(
        f"{path} is no configuration of {_PROGRAMS.get(kind, _PROGRAMS['.json'])}."
    )

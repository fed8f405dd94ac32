"""Configuration files that extend another file with ``extends``.

With ``"extends": "base/12gb.json"`` (a path relative to the file) or ``"extends":
"sdxl_stiefel_lora"`` (a preset), a file contains only the settings that differ from the
other file. Each key replaces the value of the other file as a whole.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .._exceptions import ConfigError
from .epochs import newest_length
from .errors import shown_value
from .migrations import migrate
from .path_text import path_problem
from .paths import resolve_paths
from .plain import check_plain
from .presets import find_preset
from .reading import read_json
from .violation import SettingsError, Violation

__all__ = ["EXTENDS", "with_base"]

EXTENDS = "extends"

# These describe the base's own file.
NOT_INHERITED = ("$schema", "comment", "run_name")


def with_base(
    data: dict[str, Any], folder: Path, below: tuple[Path, ...] = ()
) -> dict[str, Any]:
    """Merge the settings of a file with those of the file that it extends, if any.

    Args:
        data: settings of a file, with absolute paths.
        folder: folder of the file.
        below: files that extend this file, including itself.

    Raises:
        ConfigError: If a file does not exist, is not valid JSON, or extends itself
            through other files.
    """
    if EXTENDS not in data:
        return data
    own = {key: value for key, value in data.items() if key != EXTENDS}
    path = _file_of(data[EXTENDS], folder)
    if path in below:
        problem = f"the file extends itself through {path}"
        raise SettingsError([Violation(EXTENDS, problem, "Remove one of them")])
    base = read_json(path)
    check_plain(base)
    base = resolve_paths(migrate(base), path.parent)
    base = with_base(base, path.parent, (*below, path))
    inherited = {key: base[key] for key in base if key not in NOT_INHERITED}
    inherited = newest_length(inherited, own)
    if "optimizer" in own:
        # The base's rate is in the unit of the base's optimizer.
        inherited.pop("learning_rate", None)
    return {**inherited, **own}


def _file_of(name: Any, folder: Path) -> Path:
    if not isinstance(name, str) or not name:
        problem = (
            "must be the path of a file or the name of a preset in double quotes, "
            f"but got {shown_value(name)}"
        )
        raise SettingsError([Violation(EXTENDS, problem)])
    problem = path_problem(name)
    if problem:
        shown = shown_value(name)
        raise SettingsError([Violation(EXTENDS, f"{problem}, but got {shown}")])
    try:
        return folder / name if os.path.isfile(folder / name) else find_preset(name)
    except ConfigError as error:
        raise SettingsError([Violation(EXTENDS, str(error))]) from None

"""Loading of a configuration from a file and ``--set`` arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .._exceptions import ConfigError
from .base_preset import with_base
from .errors import violations_in
from .migrations import migrate
from .overrides import apply_overrides, parse_override
from .path_text import expanded
from .paths import resolve_paths
from .plain import check_plain
from .plugins import load_named_plugins
from .reading import read_json
from .schema import DEFAULT_OPTIMIZER, TrainConfig
from .violation import SettingsError

__all__ = ["load_config", "parse_config", "read_json"]

# Keys for editors, without a meaning for training.
IGNORED = ("$schema",)


def load_config(
    path: str | Path, overrides: Iterable[str] = (), plugins: Iterable[str] = ()
) -> TrainConfig:
    """Load a configuration file. All paths in the result are absolute.

    Args:
        path: path of a JSON file. Paths in the file are relative to its folder. The
            default of ``run_name`` is the name of the file, and the default of
            ``output_dir`` is ``runs`` in the current folder.
        overrides: ``KEY=VALUE`` settings that replace those of the file. Paths in them
            are relative to the current folder.
        plugins: plugin files or modules to load in addition to ``plugins`` in the file.
            Paths are relative to the current folder.

    Raises:
        SettingsError: If settings are invalid. The message has a line for each of them.
        ConfigError: If the file cannot be read.
    """
    path, overrides = expanded(path), list(overrides)
    for text in overrides:
        parse_override(text)
    data = read_json(path)
    data.setdefault("run_name", path.stem)
    try:
        return parse_config(
            data, folder=path.parent, overrides=overrides, plugins=plugins
        )
    except SettingsError as error:
        raise error.under(f"{path} with --set" if overrides else str(path)) from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_config(
    data: Mapping[str, Any],
    *,
    folder: str | Path = ".",
    overrides: Iterable[str] = (),
    plugins: Iterable[str] = (),
) -> TrainConfig:
    """Create a configuration from a dictionary, as for a file in ``folder``.

    Raises:
        SettingsError: If settings are invalid. The message has a line for each of them.
    """
    overrides = list(overrides)
    check_plain(data)
    raw = {key: value for key, value in data.items() if key not in IGNORED}
    # Per file, before files are combined: a version and relative paths belong to the
    # file that contains them.
    raw = with_base(resolve_paths(migrate(raw), Path(folder)), Path(folder))
    model = raw.get("base_model_name")
    raw = apply_overrides(raw, overrides, default_optimizer=DEFAULT_OPTIMIZER)
    raw.setdefault("output_dir", "runs")
    raw = _with_plugins(raw, plugins)
    # Paths that are still relative came from the command line. A hub name of the file
    # must not turn into a folder of that name that happens to be in the current one.
    raw = resolve_paths(raw, Path.cwd())
    if not any(parse_override(text)[0] == ["base_model_name"] for text in overrides):
        raw["base_model_name"] = model
    return _validated(load_named_plugins(raw))


def _with_plugins(raw: dict[str, Any], plugins: Iterable[str]) -> dict[str, Any]:
    """Add plugins to the key ``plugins``. Invalid values are checked by the schema."""
    named = raw.get("plugins", [])
    added = list(plugins)
    if not added or not isinstance(named, list):
        return raw
    return {**raw, "plugins": [*named, *added]}


def _validated(data: dict[str, Any]) -> TrainConfig:
    try:
        return TrainConfig.model_validate(data)
    except ValidationError as error:
        found = violations_in(error, list(TrainConfig.model_fields))
        raise SettingsError(found) from error

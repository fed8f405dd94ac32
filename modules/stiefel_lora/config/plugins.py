"""Loading of the plugins of a configuration."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from .._exceptions import ConfigError
from ..methods import CATALOGUE, find_record, load_plugin
from ..methods.plugins import find_installed
from .custom_code import check_custom_code
from .optimizer import follow_catalogue, optimizer_union
from .resolved import Settings
from .schema import TrainConfig
from .settings import OptimizationSettings
from .violation import SettingsError, Violation

__all__ = ["load_named_plugins", "offer_methods"]


def load_named_plugins(data: dict[str, Any]) -> dict[str, Any]:
    """Load the modules in ``plugins``, and the installed plugin of ``optimizer``.

    Args:
        data: settings with absolute paths. Values of invalid types are ignored.

    Returns:
        The settings. If the optimizer is provided by an installed plugin, its module is
        added to ``plugins``.

    Raises:
        SettingsError: If a plugin does not exist, cannot be imported, or does not
            register a method, or this process must not run code of configurations.
    """
    check_custom_code(data)
    named = data.get("plugins", [])
    if not isinstance(named, list) or not all(isinstance(t, str) and t for t in named):
        return data
    named = list(dict.fromkeys(named))
    with _at_its_key():
        for text in named:
            load_plugin(text)
    data = {**data, "plugins": named} if named else data
    optimizer = data.get("optimizer")
    name = optimizer.get("name") if isinstance(optimizer, dict) else None
    if isinstance(name, str) and find_record(name) is None:
        with _at_its_key():
            find_installed(name)
        if name in CATALOGUE:
            data = {**data, "plugins": [*named, CATALOGUE[name].plugin]}
    offer_methods()
    return data


@contextlib.contextmanager
def _at_its_key() -> Iterator[None]:
    """Add the configuration key to errors of plugins."""
    try:
        yield
    except ConfigError as error:
        # Callers without a configuration get the key in the message already.
        problem = str(error).removeprefix("plugins: ")
        raise SettingsError([Violation("plugins", problem)]) from error


def offer_methods() -> None:
    """Update the schema to all methods of the catalogue."""
    if not follow_catalogue():
        return
    for model in (OptimizationSettings, Settings, TrainConfig):
        model.model_fields["optimizer"].annotation = optimizer_union()
        model.model_rebuild(force=True)

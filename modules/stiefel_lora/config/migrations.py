"""Migration of files of older schema versions, one version at a time.

``MIGRATIONS[n]`` turns a dictionary of version ``n + 1`` into one of ``n + 2``. A
released entry never changes; a test keeps a file before and after each migration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .violation import SettingsError, Violation

__all__ = ["MIGRATIONS", "latest_version", "migrate"]

Migration = Callable[[dict[str, Any]], dict[str, Any]]


def _name_the_step_of_stiefel_lora(data: dict[str, Any]) -> dict[str, Any]:
    """Version 2: ``step`` of Stiefel LoRA is ``product`` unless set to ``factors``.

    Files of version 1 keep their numerics. A file that extends another has no optimizer
    of its own unless it names one.
    """
    optimizer = data.get("optimizer")
    if optimizer is None and "optimizer" not in data and "extends" not in data:
        optimizer = "stiefel_lora"
    if isinstance(optimizer, str):
        optimizer = {"name": optimizer}
    if not isinstance(optimizer, dict) or optimizer.get("name") != "stiefel_lora":
        return data
    return {**data, "optimizer": {"step": "factors", **optimizer}}


def _name_the_momentum_of_stiefel_lora(data: dict[str, Any]) -> dict[str, Any]:
    """Version 3: momentum and learning rate of the step of the product changed.

    Files of version 2 that leave them out keep 0.9 and 0.01, also those that extend
    another: a file that names an optimizer does not take the other's learning rate.
    """
    optimizer = data.get("optimizer")
    if optimizer is None and "optimizer" not in data and "extends" not in data:
        optimizer = "stiefel_lora"
    if isinstance(optimizer, str):
        optimizer = {"name": optimizer}
    if (
        not isinstance(optimizer, dict)
        or optimizer.get("name") != "stiefel_lora"
        or optimizer.get("step", "product") != "product"
    ):
        return data
    optimizer = {"momentum": 0.9, **optimizer}
    return {"learning_rate": 0.01, **data, "optimizer": optimizer}


MIGRATIONS: list[Migration] = [
    _name_the_step_of_stiefel_lora,
    _name_the_momentum_of_stiefel_lora,
]


def latest_version(migrations: list[Migration] = MIGRATIONS) -> int:
    """Return the version that this package writes."""
    return len(migrations) + 1


def migrate(
    data: dict[str, Any], migrations: list[Migration] = MIGRATIONS
) -> dict[str, Any]:
    """Migrate ``data`` to the latest version; without a version it counts as latest.

    Raises:
        SettingsError: If the version is not a number, or newer than the latest
            supported one.
    """
    latest = latest_version(migrations)
    version = data.get("schema_version", latest)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        problem = f"must be an integer from 1 to {latest}, but got {version!r}"
        fix = "Remove it from new files"
        raise SettingsError([Violation("schema_version", problem, fix)])
    if version > latest:
        problem = (
            f"version {version} is newer than {latest}, the latest version "
            "that is supported"
        )
        fix = "Update stiefel-lora with pip install -U stiefel-lora"
        raise SettingsError([Violation("schema_version", problem, fix)])
    for step in migrations[version - 1 :]:
        data = step(dict(data))
    return {**data, "schema_version": latest}

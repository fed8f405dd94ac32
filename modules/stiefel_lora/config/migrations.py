"""Migration of config files of older versions.

``MIGRATIONS[n]`` converts a dictionary of version ``n + 1`` to version ``n + 2``.
Entries must not be changed after a release.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .violation import SettingsError, Violation

__all__ = ["MIGRATIONS", "latest_version", "migrate"]

Migration = Callable[[dict[str, Any]], dict[str, Any]]


def _name_the_step_of_stiefel_lora(data: dict[str, Any]) -> dict[str, Any]:
    """Migrate to version 2, in which the default of ``step`` is ``product``.

    In version 1, it was ``factors``, which is added to the options of Stiefel LoRA. A
    file that extends another file is only changed if it sets an optimizer.
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
    """Migrate to version 3, with other default momentum and learning rate.

    The defaults of version 2, 0.9 and 0.01 for ``step`` ``product``, are added to files
    that do not set them.
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
    """Return the current version of the format."""
    return len(migrations) + 1


def migrate(
    data: dict[str, Any], migrations: list[Migration] = MIGRATIONS
) -> dict[str, Any]:
    """Migrate settings to the latest version. Without ``version``, nothing is changed.

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

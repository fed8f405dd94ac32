"""Code that a configuration can name: the plugins and the class of an optimizer.

Both are imported when a configuration is checked. A server that takes settings from a
browser calls :func:`forbid_custom_code`, and then no configuration that is read in this
process can name code, wherever it comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..methods import CATALOGUE, CUSTOM
from .violation import SettingsError, Violation

__all__ = ["check_custom_code", "forbid_custom_code", "permit_custom_code"]

_allowed: frozenset[str] | None = None
"""Plugins that can be named, or None for all."""


def forbid_custom_code(allowed: Iterable[str] = ()) -> None:
    """Reject configurations that name code, from now on in this process.

    Args:
        allowed: plugins that can be named. Those that are already loaded can, too.
    """
    global _allowed
    loaded = {entry.plugin for entry in CATALOGUE.values() if entry.plugin}
    _allowed = frozenset({*allowed, *loaded})


def permit_custom_code() -> None:
    """Accept configurations that name code, which is the default."""
    global _allowed
    _allowed = None


def check_custom_code(data: Mapping[str, Any]) -> None:
    """Check that settings name no code that is forbidden.

    Args:
        data: settings, which may be invalid.

    Raises:
        SettingsError: If they name a plugin or an optimizer class.
    """
    if _allowed is None:
        return
    found = []
    named = data.get("plugins") or ()
    # Other types are no plugins, but no reason to read on either.
    texts = named if isinstance(named, list | tuple) else [named]
    if any(not isinstance(text, str) or text not in _allowed for text in texts):
        found.append(_violation("plugins"))
    optimizer = data.get("optimizer")
    if isinstance(optimizer, Mapping) and (
        optimizer.get("name") == CUSTOM or "class" in optimizer
    ):
        found.append(_violation("optimizer.class"))
    if found:
        raise SettingsError(found)


def _violation(key: str) -> Violation:
    return Violation(
        key,
        "cannot be set in this process, because it runs code",
        "Start the server with --allow-custom-code",
    )

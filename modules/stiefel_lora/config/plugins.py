"""Load the plug-ins that a configuration names, and offer their methods in it."""

from __future__ import annotations

from typing import Any

from ..methods import CATALOGUE, load_plugin
from ..methods.plugins import find_installed
from .optimizer import follow_catalogue, optimizer_union
from .schema import TrainConfig
from .settings import OptimizationSettings

__all__ = ["load_named_plugins", "offer_methods"]


def load_named_plugins(data: dict[str, Any]) -> dict[str, Any]:
    """Load what ``plugins`` names, and an installed method that ``optimizer`` names.

    Args:
        data: raw settings, paths absolute; what is not text is left to the schema.

    Returns:
        The settings, with the module of an installed method among ``plugins``: what is
        saved with a run then names all that it needs.

    Raises:
        ConfigError: a plug-in that is missing, broken, or registers no method.
    """
    named = data.get("plugins", [])
    if not isinstance(named, list) or not all(isinstance(t, str) and t for t in named):
        return data
    named = list(dict.fromkeys(named))
    for text in named:
        load_plugin(text)
    data = {**data, "plugins": named} if named else data
    optimizer = data.get("optimizer")
    name = optimizer.get("name") if isinstance(optimizer, dict) else None
    if isinstance(name, str) and name not in CATALOGUE:
        find_installed(name)
        if name in CATALOGUE:
            data = {**data, "plugins": [*named, CATALOGUE[name].plugin]}
    offer_methods()
    return data


def offer_methods() -> None:
    """Let the schema accept every method that is in the catalogue now."""
    if not follow_catalogue():
        return
    for model in (OptimizationSettings, TrainConfig):
        model.model_fields["optimizer"].annotation = optimizer_union()
        model.model_rebuild(force=True)

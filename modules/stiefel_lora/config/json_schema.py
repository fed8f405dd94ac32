"""JSON schema of the configuration, for completion and validation in editors.

A config file can refer to it with ``"$schema": "../train_config.schema.json"``.
"""

from __future__ import annotations

import json
from typing import Any

from .base_preset import EXTENDS
from .plugins import offer_methods
from .schema import TrainConfig

__all__ = ["json_schema", "json_schema_text"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a config file.

    The keys ``$schema`` and ``extends``, and methods of loaded plugins are included.
    """
    offer_methods()
    schema = _unwrapped(TrainConfig.model_json_schema(by_alias=True))
    about_the_file = {
        "$schema": "Path of the JSON schema, used by editors.",
        EXTENDS: (
            "Config file (relative to this file) or preset whose settings are used "
            "for all keys that are not set in this file."
        ),
    }
    properties = {
        key: {"type": "string", "description": text}
        for key, text in about_the_file.items()
    }
    properties.update(schema.pop("properties"))
    return {"$schema": DIALECT, **schema, "properties": properties}


def json_schema_text() -> str:
    """Return the text of ``training_presets/train_config.schema.json``."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _unwrapped(node: Any) -> Any:
    """Join the lines of every description, and add the meaning of unset settings."""
    if isinstance(node, list):
        return [_unwrapped(item) for item in node]
    if not isinstance(node, dict):
        return node
    rest = {key: _unwrapped(value) for key, value in node.items()}
    unset = rest.pop("unset_means", None)
    if isinstance(rest.get("description"), str):
        text = " ".join(rest["description"].split())
        rest["description"] = f"{text} Unset: {unset}." if unset else text
    return rest

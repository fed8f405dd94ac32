"""Settings of datasets of ai-toolkit that apply to all concepts here."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from .import_report import Entry

__all__ = ["join_shared", "marked"]

# Values of datasets without the key.
_DEFAULTS: dict[str, Any] = {
    "alpha_mask": False,
    "aspect_ratio_bucketing": True,
    "bucket_step": 64,
    "latent_caching": False,
    "trigger_word": None,
    "unmasked_weight": 0.0,
}
# It does not change results.
_HARMLESS = ("latent_caching",)


def join_shared(
    concepts: list[dict[str, Any]], trigger_word: str | None
) -> tuple[dict[str, Any], set[str]]:
    """Remove shared settings, whose keys begin with ``_``, from concepts.

    Args:
        concepts: concepts, which are changed.
        trigger_word: trigger word of datasets that have none.

    Returns:
        The settings of the first dataset that has them, and the keys of those that
        differ between datasets.
    """
    defaults = {**_DEFAULTS, "trigger_word": trigger_word}
    found: dict[str, Any] = {}
    unequal = set()
    for name, usual in defaults.items():
        # Regularization images do not get the trigger word.
        asked = [c for c in concepts if name != "trigger_word" or not c.get("is_reg")]
        given = [concept[f"_{name}"] for concept in asked if f"_{name}" in concept]
        values = [concept.get(f"_{name}", usual) for concept in asked]
        for concept in concepts:
            concept.pop(f"_{name}", None)
        if given:
            found[name] = given[0]
        if any(value != values[0] for value in values) and name not in _HARMLESS:
            unequal.add(name)
    return found, unequal


def marked(
    entries: Sequence[Entry], settings: dict[str, Any], unequal: set[str]
) -> list[Entry]:
    """Return entries, of which those about unequal settings change training."""
    return [_marked(entry, settings, unequal) for entry in entries]


def _marked(entry: Entry, settings: dict[str, Any], unequal: set[str]) -> Entry:
    names = unequal & {key for key, _ in entry.sets}
    if not names or ".datasets." not in entry.key:
        return entry
    sets = tuple(
        (key, value)
        for key, value in entry.sets
        if key not in names or settings.get(key) == value
    )
    return dataclasses.replace(
        entry,
        outcome="translated" if sets else "ignored",
        sets=sets,
        note=f"{', '.join(sorted(names))} is the same for all concepts; that of the "
        "first dataset with this key is used",
        matters=True,
    )

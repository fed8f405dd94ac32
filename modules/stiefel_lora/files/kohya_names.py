"""Canonical and kohya names of a family's layers.

Underscores cannot be parsed back into dots without guessing. So both directions use one
table of every name that a model of the family can have, built once and inverted as a
whole. A key table (``files.keys_*``) supplies the pairs and the words for its errors.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from .._exceptions import ModelError
from ..families.catalogue import family_names, record_of

__all__ = ["KohyaNames", "fusing_of", "key_table"]

Pairs = Iterable[tuple[str, str]]


class KohyaNames:
    """Name mapping of one key table, in both directions.

    Args:
        pairs: canonical name of every layer and stem of its kohya keys. Dots in the
            stem are replaced by underscores.
        model: name of the family in errors, with its article.
        structure: description of its models for errors, empty or in parentheses.
        spelling: name of the key format for errors.
    """

    def __init__(
        self,
        pairs: Callable[[], Pairs],
        *,
        model: str,
        structure: str = "",
        spelling: str,
    ) -> None:
        self._pairs = pairs
        self._model = model
        self._structure = structure
        self._spelling = spelling

    def to_kohya(self, name: str) -> str:
        """Return the stem of the kohya keys for a canonical name.

        Raises:
            ModelError: If the family has no such layer.
        """
        stem = self.kohya_names().get(name)
        if stem is None:
            raise ModelError(
                f"{name!r} has no kohya name, because it is not a layer of "
                f"{self._model} model{self._structure}. Use the PEFT format."
            )
        return stem

    def from_kohya(self, stem: str) -> str:
        """Return the canonical name for a stem of kohya keys.

        Raises:
            ModelError: If the family has no layer with this stem.
        """
        name = self._inverse.get(stem)
        if name is None:
            raise ModelError(
                f"{stem!r} is not a layer of {self._model} model in {self._spelling}."
            )
        return name

    def kohya_names(self) -> dict[str, str]:
        """Canonical name -> stem of the kohya keys, for every layer of the family."""
        return self._names

    @functools.cached_property
    def _names(self) -> dict[str, str]:
        return {name: stem.replace(".", "_") for name, stem in self._pairs()}

    @functools.cached_property
    def _inverse(self) -> dict[str, str]:
        return {stem: name for name, stem in self._names.items()}


def key_table(family: str) -> KohyaNames:
    """Return the key table of a family."""
    record = record_of(family)
    table: KohyaNames = record.load(record.lora_files.kohya)
    return table


def fusing_of(family: str | None) -> Any:
    """Return the module with ``fuse``, ``split`` and ``diffusers_paths`` of a family.

    None for a family whose files fuse no layers, and for an unknown family.
    """
    if family not in family_names():
        return None
    record = record_of(family)
    target = record.lora_files.fusing
    return None if target is None else record.load(target)

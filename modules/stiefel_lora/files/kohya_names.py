"""Mapping between canonical names and kohya names of the layers of a family.

Underscores in kohya names cannot be converted to dots unambiguously. Therefore, a table
of all names of a model family is used in both directions. The tables are defined in
``files.keys_*``.
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
    """Mapping between canonical names and kohya names.

    Args:
        pairs: function that returns the canonical name and the kohya stem of every
            layer. Dots in stems are replaced by underscores.
        model: name of the family with its article, for error messages.
        structure: description of the models for error messages, empty or in
            parentheses.
        spelling: name of the key format for error messages.
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
            ModelError: If the layer does not exist in the family.
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
        """Return the kohya stems of all layers by canonical name."""
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

    None for families without fused layers and for unknown families.
    """
    if family not in family_names():
        return None
    record = record_of(family)
    target = record.lora_files.fusing
    return None if target is None else record.load(target)

"""Names of a family's layers in both spellings: canonical and kohya's.

Underscores cannot be parsed back into dots without guessing. So both directions are
one table of every name that a model of the family can have, made once and inverted as
a whole. A key table (``files.keys_*``) gives its pairs and what its errors say.
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
    """The two directions of one key table.

    Args:
        pairs: canonical name and stem of the kohya keys of every layer; dots of the
            stem become underscores.
        model: the family in errors, with its article.
        structure: what its models look like, for errors; empty or in brackets.
        spelling: kohya's spelling of the family, for errors.
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
        """Canonical name -> stem of the kohya keys.

        Raises:
            ModelError: the family has no such layer.
        """
        stem = self.kohya_names().get(name)
        if stem is None:
            raise ModelError(
                f"{name!r} has no kohya name: it is no layer of {self._model} model"
                f"{self._structure}. Write the PEFT format instead."
            )
        return stem

    def from_kohya(self, stem: str) -> str:
        """Stem of the kohya keys -> canonical name, the inverse of ``to_kohya``.

        Raises:
            ModelError: no layer of the family has this stem.
        """
        name = self._inverse.get(stem)
        if name is None:
            raise ModelError(
                f"{stem!r} names no layer of {self._model} model in {self._spelling}."
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
    """The key table of a family."""
    record = record_of(family)
    table: KohyaNames = record.load(record.lora_files.kohya)
    return table


def fusing_of(family: str | None) -> Any:
    """Module with ``fuse``, ``split`` and ``diffusers_paths`` of a family that fuses.

    None for a family whose files fuse no layers, and one without a record.
    """
    if family not in family_names():
        return None
    record = record_of(family)
    target = record.lora_files.fusing
    return None if target is None else record.load(target)

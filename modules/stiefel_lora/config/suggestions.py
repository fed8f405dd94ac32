"""Suggestions for misspelled keys and words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from .foreign import FOREIGN_NAMES, WITHOUT_COUNTERPART, WORDS

__all__ = ["FOREIGN_NAMES", "nearest", "no_counterpart", "suggest_key"]

Sections = Mapping[str, Iterable[str]]
"""Keys by section. "" is the top level."""

# difflib's ratio above which two keys count as the same. At its default of 0.6, every
# fourth option of other trainers resembles one of ours (network_weights and
# noising_weight); one letter too many, too few or swapped stays above 0.8 in words of
# five letters and more.
_ALIKE, _ALIKE_SHORT, _SHORT = 0.8, 0.6, 4


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word that is most similar to ``word``, or None."""
    lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), list(lower), n=1, cutoff=cutoff)
    return lower[found[0]] if found else None


def suggest_key(key: str, section: str, sections: Sections) -> str | None:
    """Find a valid key that is similar to an unknown key.

    Args:
        key: unknown key.
        section: section of the key: "", concepts, samples or optimizer.
        sections: valid keys by section.

    Returns:
        The similar key, with its path or "at the top level" if it is in another
        section. None if no key is similar.
    """
    word = _plain(key)
    known = list(sections[section])
    meant = FOREIGN_NAMES.get(word)
    if meant:
        place, _, name = meant.rpartition(".")
        if place == section and name in known:
            return name
        if place != section and (not section or word not in WORDS):
            return _elsewhere(place, name)
    if word in WITHOUT_COUNTERPART:
        return None
    near = word if word in known else _like(word, known)
    if near:
        return near
    for place in sections:
        if place != section and word != "name" and word in sections[place]:
            return _elsewhere(place, word)
    return _part_of(word, known)


def no_counterpart(key: str) -> str | None:
    """Return the reason why an option of another trainer is not supported, or None."""
    return WITHOUT_COUNTERPART.get(_plain(key))


def _plain(key: str) -> str:
    """Return a key as in a config file, without the dashes of command line options."""
    return key.strip().lstrip("-").replace("-", "_").lower()


def _elsewhere(place: str, name: str) -> str:
    if place in ("concepts", "samples"):
        return f"{place}.0.{name}"
    return f"{place}.{name}" if place else f"{name} at the top level"


def _part_of(word: str, known: list[str]) -> str | None:
    """Return the key that contains the words of ``word``, if there is only one."""
    if "_" not in word.strip("_"):
        return None
    found = [name for name in known if f"_{word}_" in f"_{name}_"]
    return found[0] if len(found) == 1 else None


def _like(word: str, known: list[str]) -> str | None:
    return nearest(word, known, _ALIKE if len(word) > _SHORT else _ALIKE_SHORT)

"""Prefixes of captions of sd-scripts, which become the trigger word.

There, a prefix belongs to a subset, is always written in front of a caption, and its
tags are counted by ``keep_tokens``. Here, the trigger word applies to all concepts, is
added to captions that do not contain it, and is not counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ..trigger import PLACEHOLDER
from .import_report import Entry

__all__ = ["PREFIX", "Joined", "join_prefixes"]

PREFIX = "_caption_prefix"
"""Key of the prefix of a concept, until the prefixes are joined."""

_IN_SAMPLES = (
    "in front of captions that do not contain it, and also of sample prompts, which "
    "sd-scripts does not change"
)


@dataclasses.dataclass(frozen=True)
class Joined:
    """The trigger word that the prefixes of all concepts result in.

    Attributes:
        word: trigger word, or None.
        problems: differences from the other program.
        counted: number of tags of the prefix that ``keep_tokens`` counts there.
    """

    word: str | None = None
    problems: tuple[str, ...] = ()
    counted: int = 0

    def entries(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return the entries of a report, with what became of the prefix."""
        return [self._changed(entry) for entry in entries]

    def _changed(self, entry: Entry) -> Entry:
        name = entry.key.rpartition(".")[2]
        if name == "keep_tokens" and self.counted and entry.sets:
            sets = tuple(
                (key, max(0, value - self.counted)) for key, value in entry.sets
            )
            note = "caption_prefix is counted there, and trigger_word is not"
            return dataclasses.replace(
                entry, outcome="translated", sets=sets, note=note
            )
        if name != "caption_prefix" or not entry.sets:
            return entry
        sets = (("trigger_word", self.word),) if self.word else ()
        return dataclasses.replace(
            entry,
            outcome="translated" if sets else "ignored",
            sets=sets,
            note="; ".join(self.problems) or _IN_SAMPLES,
            matters=bool(self.problems),
        )


def join_prefixes(concepts: list[dict[str, Any]]) -> Joined:
    """Remove the prefixes of concepts, and return the trigger word instead of them.

    ``keep_tags_count`` is reduced by the number of tags of the prefix.
    """
    given = [(concept, concept.pop(PREFIX, "")) for concept in concepts]
    if not concepts:
        return Joined(None, ("there are no concepts",))
    used = {prefix for concept, prefix in given if not concept.get("is_reg")}
    if not any(prefix for _, prefix in given):
        return Joined()
    if len(used) != 1 or not any(used):
        return Joined(
            None, ("trigger_word applies to all concepts but those of is_reg",)
        )
    problems: dict[str, None] = {}
    counts = set()
    word = ""
    for concept, prefix in given:
        if concept.get("is_reg"):
            if prefix:
                problems["images with is_reg do not get trigger_word"] = None
            continue
        word, count, found = _as_word(prefix, concept)
        counts.add(count)
        problems |= dict.fromkeys(found)
        if not word:
            return Joined(None, tuple(problems))
    return Joined(word, tuple(problems), min(counts, default=0))


def _as_word(prefix: str, concept: dict[str, Any]) -> tuple[str, int, list[str]]:
    """Return the trigger word, its tags that are counted there, and differences."""
    delimiter = str(concept.get("tag_delimiter") or ",")
    separator = str(concept.get("keep_tags_separator") or "")
    text = prefix.strip()
    separated = bool(separator) and text.endswith(separator)
    if separated:
        text = text.removesuffix(separator).strip()
    ends = text.endswith(delimiter.strip() or delimiter)
    text = text.strip(f"{delimiter} ")
    second = str(concept.get("secondary_separator") or "")
    if any(mark and mark in text for mark in (separator, second, PLACEHOLDER, "\n")):
        return "", 0, ["a trigger word cannot contain separators"]
    if concept.get("enable_wildcard") and "{" in text:
        return "", 0, ["a trigger word cannot contain wildcards"]
    if not text:
        return "", 0, ["it contains no word"]
    moved = concept.get("enable_tag_shuffling") or concept.get(
        "tag_dropout_probability"
    )
    if not ends and not separated:
        return text, 0, ["sd-scripts writes no comma between it and the caption"]
    if not moved:
        stays = "sd-scripts leaves the separator in captions that are not shuffled"
        return text, 0, [stays] if separated else []
    if separated:
        # What is in front of the separator is kept, whatever keep_tokens is.
        concept.pop("keep_tags_count", None)
        return text, 0, []
    return _counted(text, delimiter, concept)


def _counted(
    text: str, delimiter: str, concept: dict[str, Any]
) -> tuple[str, int, list[str]]:
    tags = len([part for part in text.split(delimiter) if part.strip()])
    kept = int(concept.get("keep_tags_count") or 0)
    if kept < tags:
        concept.pop("keep_tags_count", None)
        separator = concept.get("keep_tags_separator")
        where = f" in captions without {separator}" if separator else ""
        note = (
            "keep_tokens is below the number of its tags, so that they are shuffled "
            f"and dropped there{where}, and stay in front here"
        )
        return text, kept, [note]
    concept["keep_tags_count"] = kept - tags
    return text, tags, []

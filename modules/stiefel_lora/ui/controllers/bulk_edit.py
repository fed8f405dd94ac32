"""Edits of many captions at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ...config import Concept, TrainConfig
from ...config.caption_extension import TEXT
from ...data.caption_edits import Edit, appended, prepended, replaced, trigger_added
from ...data.caption_files import Change, changes_by
from .image_captions import Shelf

__all__ = [
    "EDIT_KINDS",
    "MOST_LISTED",
    "BulkEdit",
    "EditableCaptions",
    "inputs_of",
    "note_on_changes",
    "usual_separator",
]

TRIGGER, FRONT, END, REPLACE = EDIT_KINDS = (
    "Add the trigger word",
    "Add text in front",
    "Add text at the end",
    "Find and replace",
)
MOST_LISTED = 200
"""Maximum number of changes that are listed."""

_SELECTED = "Selected images"
_INPUTS = {
    TRIGGER: ("text",),
    FRONT: ("text", "separator"),
    END: ("text", "separator"),
    REPLACE: ("old", "new", "options"),
}


@dataclasses.dataclass(frozen=True)
class EditableCaptions:
    """Captions of a folder that can be edited."""

    scopes: Mapping[str, Mapping[Path, str]]
    """Captions by image, for each choice of images. The first one has all images."""

    trigger: str
    delimiter: str
    folder: Path
    deep: bool
    """Whether subfolders are included."""

    extension: str = TEXT
    """Extension of caption files."""

    @classmethod
    def of(
        cls,
        shelf: Shelf,
        concept: Concept,
        config: TrainConfig | None,
        shown: Iterable[Path],
        selected: Sequence[Path] = (),
    ) -> EditableCaptions:
        """Return the captions of a folder, without those that cannot be read.

        Args:
            shelf: the folder as it was read.
            concept: settings of the folder.
            config: configuration with the trigger word, if it is valid.
            shown: images that pass the filter.
            selected: images that are selected.
        """
        # A caption that cannot be read must not be replaced.
        captions = {
            path: text
            for path, text in shelf.captions.items()
            if path not in shelf.unreadable
        }

        def of_images(paths: Iterable[Path]) -> dict[Path, str]:
            return {path: captions[path] for path in paths if path in captions}

        scopes = {f"All images of the folder ({len(captions)})": captions}
        listed = of_images(shown)
        if len(listed) < len(captions):
            scopes[f"Images shown ({len(listed)})"] = listed
        if len(selected) > 1:
            chosen = of_images(selected)
            scopes[f"{_SELECTED} ({len(chosen)})"] = chosen
        return cls(
            scopes,
            (config.trigger_word if config else None) or "",
            concept.tag_delimiter,
            concept.path,
            concept.include_subdirectories or concept.subfolder_repeats,
            concept.caption_extension,
        )

    @property
    def proposed(self) -> str:
        """Return the choice of the selected images if there are several, or of all."""
        first, *others = self.scopes
        return next((name for name in others if name.startswith(_SELECTED)), first)

    @property
    def all(self) -> Mapping[Path, str]:
        """Return the captions of all images."""
        return next(iter(self.scopes.values()))


@dataclasses.dataclass(frozen=True)
class BulkEdit:
    """An edit of captions, as entered by the user."""

    kind: str = TRIGGER
    text: str = ""
    separator: str = ", "
    old: str = ""
    new: str = ""
    match_case: bool = False
    whole_words: bool = False

    @property
    def title(self) -> str:
        """Description of the edit, for its undo."""
        if self.kind == REPLACE:
            return f"{self.kind}: {self.old!r} by {self.new!r}"
        return f"{self.kind}: {self.text!r}"

    def changes(
        self, captions: Mapping[Path, str], delimiter: str, extension: str = TEXT
    ) -> list[Change]:
        """Return the changes of captions, or none if a text is missing.

        Args:
            captions: captions by image.
            delimiter: separator of tags.
            extension: extension of caption files.
        """
        edit = self._edit(delimiter)
        return changes_by(edit, captions, extension) if edit else []

    def _edit(self, delimiter: str) -> Edit | None:
        if self.kind == REPLACE:
            make = replaced(
                self.old,
                self.new,
                match_case=self.match_case,
                whole_words=self.whole_words,
            )
            return make if self.old else None
        if not self.text.strip():
            return None
        if self.kind == TRIGGER:
            return trigger_added(self.text.strip(), delimiter)
        add = prepended if self.kind == FRONT else appended
        return add(self.text, self.separator)


def inputs_of(kind: str) -> tuple[str, ...]:
    """Return the inputs of a kind of edit: text, separator, old, new, options."""
    return _INPUTS[kind]


def usual_separator(delimiter: str) -> str:
    """Return the text between a caption and added text.

    >>> usual_separator(","), usual_separator(" ")
    (', ', ' ')
    """
    return delimiter if delimiter.isspace() else f"{delimiter} "


def note_on_changes(count: int, total: int) -> str:
    """Return the number of captions that change, as text."""
    note = f"{count} of {total} captions change."
    if count > MOST_LISTED:
        note += f" The first {MOST_LISTED} are listed."
    return note

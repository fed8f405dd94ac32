"""Where captions come from: text files, ``metadata.jsonl``, file names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from .._exceptions import DataError

__all__ = ["CaptionSource", "captions_of", "listed_in", "read_caption"]

METADATA = "metadata.jsonl"
_KEYS = ("text", "caption")

Captions = tuple[str, ...]


class CaptionSource(Protocol):
    """What a concept says about its captions."""

    @property
    def path(self) -> Path: ...  # noqa: D102

    @property
    def prompt_source(self) -> str: ...  # noqa: D102

    @property
    def prompt_path(self) -> Path | None: ...  # noqa: D102


def captions_of(
    pictures: Sequence[Path], concept: CaptionSource
) -> list[Captions | None]:
    """Captions of every picture, which come up in turns; None where there are none.

    Raises:
        DataError: a caption file that can not be read, or is not what it should be.
    """
    if concept.prompt_source == "filename":
        return [(picture.stem,) for picture in pictures]
    if concept.prompt_source == "concept":
        lines = _lines_of(Path(str(concept.prompt_path)))
        return [lines] * len(pictures)
    folders = {Path(concept.path), *(picture.parent for picture in pictures)}
    listed: dict[Path, str] = {}
    for folder in sorted(folders):
        listed |= listed_in(folder)
    found: list[Captions | None] = []
    for picture in pictures:
        text = read_caption(picture)
        text = listed.get(picture) if text is None else text
        found.append(None if text is None else (text,))
    return found


def read_caption(picture: Path) -> str | None:
    """Text of the .txt file beside ``picture``, or None where there is none.

    Raises:
        DataError: the file is not UTF-8.
    """
    try:
        return _read(picture.with_suffix(".txt"), "caption").strip()
    except FileNotFoundError:
        return None


def _lines_of(path: Path) -> Captions:
    try:
        text = _read(path, "caption file")
    except FileNotFoundError:
        raise DataError(
            f"There is no caption file {path}; correct prompt_path in concepts."
        ) from None
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not lines:
        raise DataError(f"The caption file {path} is empty; write a caption a line.")
    return lines


def listed_in(folder: Path) -> dict[Path, str]:
    """Captions of a folder's ``metadata.jsonl``, by picture; none without the file.

    Raises:
        DataError: a line that is not what it should be.
    """
    path = folder / METADATA
    try:
        lines = _read(path, "caption file").splitlines()
    except FileNotFoundError:
        return {}
    numbered = [(n, line) for n, line in enumerate(lines, start=1) if line.strip()]
    return dict(_metadata_line(path, number, line) for number, line in numbered)


def _metadata_line(path: Path, number: int, line: str) -> tuple[Path, str]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        entry = {}
    name = entry.get("file_name")
    texts = [entry[key] for key in _KEYS if key in entry]
    if not isinstance(name, str) or not texts or not isinstance(texts[0], str):
        raise DataError(
            f"Line {number} of {path} is not what it should be; write for example "
            f'{{"file_name": "cat.jpg", "text": "a cat"}}.'
        )
    return path.parent / name, texts[0].strip()


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(
            f"The {what} {path} is not UTF-8 (byte {error.start}); save it as UTF-8 in "
            f"a text editor."
        ) from error
    except OSError as error:
        raise DataError(
            f"The {what} {path} can not be read ({error.strerror})."
        ) from error

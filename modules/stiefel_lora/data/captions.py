"""Where captions come from: text files, ``metadata.jsonl``, file names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from .._exceptions import DataError
from .._text import is_text, not_text, read_text

__all__ = ["CaptionSource", "captions_of", "listed_in", "read_caption"]

METADATA = "metadata.jsonl"
_KEYS = ("text", "caption")
# Wrong lines of one file that are named.
_SHOWN = 5

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
    pictures: Sequence[Path], concept: CaptionSource, problems: dict[Path, str]
) -> list[Captions | None]:
    """Captions of every picture, which come up in turns; None where there are none.

    Args:
        pictures: the files.
        concept: where their captions are.
        problems: receives a sentence for each file that cannot be used; its images get
            an empty caption.
    """
    if concept.prompt_source == "filename":
        return [_name_of(picture, problems) for picture in pictures]
    if concept.prompt_source == "concept":
        path = Path(str(concept.prompt_path))
        try:
            return [_lines_of(path)] * len(pictures)
        except DataError as error:
            problems[path] = str(error)
            return [("",)] * len(pictures)
    listed = _listed_in_any(
        {Path(concept.path), *(picture.parent for picture in pictures)}, problems
    )
    found: list[Captions | None] = []
    for picture in pictures:
        try:
            text = read_caption(picture)
        except DataError as error:
            problems[picture] = str(error)
            text = ""
        text = listed.get(picture) if text is None else text
        found.append(None if text is None else (text,))
    return found


def _name_of(picture: Path, problems: dict[Path, str]) -> Captions:
    if is_text(picture.stem):
        return (picture.stem,)
    problems[picture] = (
        f"The name of the image {str(picture)!a} is not UTF-8, so it is no caption; "
        f"rename the file."
    )
    return ("",)


def _listed_in_any(folders: set[Path], problems: dict[Path, str]) -> dict[Path, str]:
    listed: dict[Path, str] = {}
    for folder in sorted(folders):
        try:
            listed |= listed_in(folder)
        except DataError as error:
            problems[folder / METADATA] = str(error)
    return listed


def read_caption(picture: Path) -> str | None:
    """Text of the .txt file beside ``picture``, or None where there is none.

    Raises:
        DataError: the file is neither UTF-8 nor what its byte order mark names.
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
        DataError: lines that are not what they should be, a sentence each.
    """
    path = folder / METADATA
    try:
        # Not splitlines: JSON strings may hold U+2028 and its like as they are.
        lines = _read(path, "caption file").split("\n")
    except FileNotFoundError:
        return {}
    numbered = [(n, line) for n, line in enumerate(lines, start=1) if line.strip()]
    entries = [(number, _metadata_entry(line)) for number, line in numbered]
    wrong = [number for number, entry in entries if entry is None]
    if wrong:
        raise DataError("\n".join(_sentences_on(path, wrong)))
    return {path.parent / entry[0]: entry[1] for _, entry in entries if entry}


def _sentences_on(path: Path, wrong: Sequence[int]) -> Iterator[str]:
    for number in wrong[:_SHOWN]:
        yield (
            f"Line {number} of {path} is not what it should be; write for example "
            f'{{"file_name": "cat.jpg", "text": "a cat"}}.'
        )
    if len(wrong) > _SHOWN:
        yield f"{len(wrong) - _SHOWN} more lines of {path} are like that."


def _metadata_entry(line: str) -> tuple[str, str] | None:
    """File name and caption; None where a line does not give both."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    name = entry.get("file_name")
    texts = [entry[key] for key in _KEYS if key in entry]
    if not isinstance(name, str) or not texts or not isinstance(texts[0], str):
        return None
    # JSON can name characters that no text holds: \u0000, or half of a pair.
    if not is_text(name + texts[0]):
        return None
    return name, texts[0].strip()


def _read(path: Path, what: str) -> str:
    try:
        return read_text(path)
    except FileNotFoundError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(
            f"The {what} {path} is {not_text(error)}; save it as UTF-8 in a text "
            f"editor."
        ) from error
    except OSError as error:
        raise DataError(
            f"The {what} {path} can not be read ({error.strerror})."
        ) from error

"""Sources of captions: text files, ``metadata.jsonl``, file names."""

from __future__ import annotations

import collections
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from .._exceptions import DataError
from .._text import is_text, not_text, read_text
from .._wording import counted
from ..config.caption_extension import TEXT

__all__ = [
    "CaptionSource",
    "captions_of",
    "listed_in",
    "read_caption",
    "unread_captions",
]

METADATA = "metadata.jsonl"
# Extensions of captions in other programs: mentioned in hints, never read.
_OTHER_ENDINGS = frozenset(
    {".cap", ".caption", ".json", ".md", ".tag", ".tags", ".text"}
)
_KEYS = ("text", "caption")
# Maximum number of wrong lines of one file that are listed.
_SHOWN = 5

Captions = tuple[str, ...]


class CaptionSource(Protocol):
    """Settings of the captions of a concept."""

    @property
    def path(self) -> Path: ...  # noqa: D102

    @property
    def prompt_source(self) -> str: ...  # noqa: D102

    @property
    def caption_extension(self) -> str: ...  # noqa: D102

    @property
    def prompt_path(self) -> Path | None: ...  # noqa: D102


def captions_of(
    images: Sequence[Path],
    concept: CaptionSource,
    problems: dict[Path, str],
    files: Iterable[Path],
) -> list[Captions | None]:
    """Read the captions of images, or None if an image has no caption.

    Args:
        images: image files.
        concept: concept with the source of the captions.
        problems: list to which a message is added for each file that cannot be used.
            The captions of its images are empty.
        files: all files of the folders, including captions in ``.TXT``.
    """
    extension = concept.caption_extension
    if concept.prompt_source == "filename":
        return [_name_of(image, problems) for image in images]
    if concept.prompt_source == "concept":
        path = Path(str(concept.prompt_path))
        try:
            return [_lines_of(path)] * len(images)
        except DataError as error:
            problems[path] = str(error)
            return [("",)] * len(images)
    listed = _listed_in_any(
        {Path(concept.path), *(image.parent for image in images)}, problems
    )
    found: list[Captions | None] = []
    odd = _in_other_case(files, extension)
    for image in images:
        try:
            text = read_caption(image, odd, extension)
        except DataError as error:
            problems[image] = str(error)
            text = ""
        text = listed.get(image) if text is None else text
        found.append(None if text is None else (text,))
    return found


def _name_of(image: Path, problems: dict[Path, str]) -> Captions:
    if is_text(image.stem):
        return (image.stem,)
    problems[image] = (
        f"The file name of the image {str(image)!a} is not valid UTF-8 and cannot "
        "be used as a caption. Rename the file."
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


def read_caption(
    image: Path, odd: Mapping[Path, Path] | None = None, extension: str = TEXT
) -> str | None:
    """Read the caption file of an image, or return None if there is none.

    Args:
        image: image file.
        odd: caption files with an uppercase suffix (``.TXT``), by their lowercase name.
            By default, the folder is searched. A file with a lowercase suffix takes
            precedence.
        extension: extension of caption files.

    Raises:
        DataError: If the file is not valid UTF-8, or in the encoding of its byte order
            mark.
    """
    # By its name first: a list of the folder for every image would take time that grows
    # with the square of their number.
    path = image.with_suffix(extension)
    try:
        return _read(path, "caption").strip()
    except FileNotFoundError:
        pass
    if odd is None:
        names = (Path(path.parent, name) for name in _names_in(path.parent))
        odd = _in_other_case(names, extension)
    try:
        return _read(odd[path], "caption").strip() if path in odd else None
    except FileNotFoundError:
        return None


def _in_other_case(files: Iterable[Path], extension: str) -> dict[Path, Path]:
    """Return files with an uppercase suffix (``.TXT``), by the name of the others."""
    found: dict[Path, Path] = {}
    for path in files:
        ending = path.name[-len(extension) :]
        if ending != extension and ending.lower() == extension.lower():
            usual = path.name.removesuffix(ending) + extension
            found.setdefault(path.with_name(usual), path)
    return found


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def unread_captions(
    uncaptioned: Iterable[Path],
    files: Iterable[Path],
    folder: Path,
    extension: str = TEXT,
) -> Iterator[str]:
    """Return messages about unused text files next to images without a caption.

    Args:
        uncaptioned: images without a caption.
        files: all files of the folders.
        folder: name of the folder in messages.
        extension: extension of caption files.
    """
    by_name: dict[Path, list[str]] = {}
    for path in files:
        ending = path.suffix.lower()
        if ending in _OTHER_ENDINGS or ending in (TEXT, extension.lower()):
            by_name.setdefault(path.with_suffix(""), []).append(ending)
    found: list[tuple[Path, str]] = []
    for image in uncaptioned:
        # Beside "cat.jpg": "cat.caption", "cat.jpg.txt", "cat.txt.txt".
        endings = [
            infix + ending
            for infix in ("", image.suffix, extension)
            for ending in by_name.get(image.with_suffix(infix), [])
            if infix or ending != extension.lower()
        ]
        found += [(image, ending) for ending in endings[:1]]
    if found:
        image, _ = found[0]
        counts = collections.Counter(ending for _, ending in found).most_common()
        named = ", ".join(f"{ending} ({count})" for ending, count in counts)
        one = "image without a caption has a text file with a similar name"
        many = "images without a caption have a text file with a similar name"
        yield (
            f"{folder}: {counted(len(found), one, many)}, which is not used: "
            f"{named}. Rename the caption of {image.name} to "
            f"{image.with_suffix(extension).name}."
        )


def _lines_of(path: Path) -> Captions:
    try:
        text = _read(path, "caption file")
    except FileNotFoundError:
        raise DataError(
            f"The caption file {path} does not exist. Correct prompt_path in concepts."
        ) from None
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not lines:
        raise DataError(f"The caption file {path} is empty. Add one caption per line.")
    return lines


def listed_in(folder: Path) -> dict[Path, str]:
    """Read the captions in ``metadata.jsonl`` of a folder, by image.

    The result is empty if the file does not exist.

    Raises:
        DataError: If the file contains invalid lines.
    """
    path = folder / METADATA
    try:
        # Not splitlines: JSON strings may contain U+2028 and similar unescaped.
        lines = _read(path, "caption file").split("\n")
    except FileNotFoundError:
        return {}
    numbered = [(n, line) for n, line in enumerate(lines, start=1) if line.strip()]
    entries = [(number, _metadata_entry(line)) for number, line in numbered]
    wrong = [number for number, entry in entries if entry is None]
    if wrong:
        raise DataError("\n".join(_messages_on(path, wrong)))
    return {path.parent / entry[0]: entry[1] for _, entry in entries if entry}


def _messages_on(path: Path, wrong: Sequence[int]) -> Iterator[str]:
    for number in wrong[:_SHOWN]:
        yield (
            f"Line {number} of {path} is not valid. Use for example "
            f'{{"file_name": "cat.jpg", "text": "a cat"}}.'
        )
    if len(wrong) > _SHOWN:
        yield f"{path} has {len(wrong) - _SHOWN} more lines that are not valid."


def _metadata_entry(line: str) -> tuple[str, str] | None:
    """Return the file name and caption, or None if a line does not have both."""
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
    # JSON can encode characters that no text file holds: \u0000 or a lone surrogate.
    if not is_text(name + texts[0]):
        return None
    return name, texts[0].strip()


def _read(path: Path, what: str) -> str:
    try:
        # A pipe or device would block forever, or never end.
        if path.exists() and not path.is_file():
            raise DataError(f"The {what} {path} is not a regular file. Remove it.")
        return read_text(path)
    except FileNotFoundError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(
            f"The {what} {path} is {not_text(error)}. Save it as UTF-8 in a text "
            "editor."
        ) from error
    except OSError as error:
        raise DataError(
            f"The {what} {path} cannot be read ({error.strerror})."
        ) from error

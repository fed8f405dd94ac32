"""Search for images and captions in the folders of concepts."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .._exceptions import DataError
from .._wording import counted
from .captions import captions_of, unread_captions
from .image_formats import (
    IMAGE_SUFFIXES,
    is_image_name,
    is_other_image_name,
    missing_package,
)
from .links import Links, find_links, link_remarks
from .mask_files import is_label, pair_masks
from .numbered_folders import (
    describe_folder,
    has_repeats,
    no_numbered_folder,
    numbered_folders,
    numbered_remarks,
)
from .walking import walk

if TYPE_CHECKING:
    from ..config import Concept

__all__ = [
    "CaptionedImage",
    "Scan",
    "refuse",
    "scan_concepts",
    "scan_with_problems",
]

# Default maximum number of problems of one kind in an error.
_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class CaptionedImage:
    """Image file with its captions."""

    path: Path
    captions: tuple[str, ...]
    """Captions that are used in turn. A single empty text if there is none."""

    concept: Concept
    """Concept of the image."""

    mask: Path | None = None
    """Mask file of the image, or None."""

    trigger: str = ""
    """Trigger word that its captions contain, or ""."""

    @property
    def caption(self) -> str:
        """First caption."""
        return self.captions[0]


@dataclasses.dataclass(frozen=True)
class Scan:
    """Images of several concepts, sorted by concept and path."""

    images: tuple[CaptionedImage, ...]
    uncaptioned: tuple[Path, ...]
    """Images without a caption."""

    remarks: tuple[str, ...] = ()
    """Messages about files that are not used."""

    problems: Mapping[Path, str] = dataclasses.field(default_factory=dict)
    """Messages about folders that cannot be used and captions that cannot be read."""

    defaulted: frozenset[Path] = frozenset()
    """Images without a caption that get the default caption of their concept."""

    @property
    def without_caption(self) -> int:
        """Number of images without a caption."""
        return len(self.uncaptioned)


def scan_concepts(concepts: Iterable[Concept]) -> Scan:
    """List the images of every enabled folder, without decoding them.

    Raises:
        DataError: If a folder is missing or contains no images, or captions cannot be
            read. The message has a line for each of them.
    """
    found = scan_with_problems(concepts)
    refuse(found.problems)
    return found


def scan_with_problems(concepts: Iterable[Concept]) -> Scan:
    """List images like :func:`scan_concepts`, but collect errors in ``problems``."""
    found = _Found()
    for concept in concepts:
        if not concept.enabled:
            text = f"The folder {concept.path} is disabled and not used."
            found.remarks.append(text)
        elif concept.subfolder_repeats:
            _scan_numbered(concept, found)
        else:
            _scan_folder(concept, found)
    return Scan(
        tuple(found.images),
        tuple(found.missing),
        tuple(found.remarks),
        found.problems,
        frozenset(found.defaulted),
    )


@dataclasses.dataclass
class _Found:
    """Parts of a scan, while folders are added."""

    images: list[CaptionedImage] = dataclasses.field(default_factory=list)
    missing: list[Path] = dataclasses.field(default_factory=list)
    defaulted: list[Path] = dataclasses.field(default_factory=list)
    remarks: list[str] = dataclasses.field(default_factory=list)
    problems: dict[Path, str] = dataclasses.field(default_factory=dict)


def _scan_folder(concept: Concept, found: _Found) -> None:
    try:
        files = _files_in(concept.path, concept.include_subdirectories)
    except DataError as error:
        found.problems[concept.path] = str(error)
        return
    _add_files(files, concept, found)


def _add_files(files: _Files, concept: Concept, found: _Found) -> int:
    """Add the images of a folder. Return the number of those without a caption."""
    masks, messages = pair_masks(files.images, files.labels)
    found.remarks += [
        *_passed_over(files.passed_over, concept.path),
        *_unread(files.unread, concept.path),
        *_special(files.special, concept.path),
        *link_remarks(files.links, concept.path),
        *messages,
    ]
    texts = captions_of(files.images, concept, found.problems, files.seen)
    bare = [
        path for path, text in zip(files.images, texts, strict=True) if text is None
    ]
    default = concept.default_caption or ""
    (found.defaulted if default else found.missing).extend(bare)
    if default and bare and not concept.subfolder_repeats:
        one, many = "image without a caption gets", "images without a caption get"
        found.remarks.append(
            f"{concept.path}: {counted(len(bare), one, many)} the caption {default!r}."
        )
    found.remarks += unread_captions(
        bare, files.seen, concept.path, concept.caption_extension
    )
    for path, captions in zip(files.images, texts, strict=True):
        found.images.append(
            CaptionedImage(path, captions or (default,), concept, masks.get(path))
        )
    return len(bare)


def _scan_numbered(parent: Concept, found: _Found) -> None:
    """Scan the subfolders of a folder that have repeats in their names."""
    try:
        concepts, passed_over = numbered_folders(parent)
    except DataError as error:
        found.problems[parent.path] = str(error)
        return
    used = []
    for concept in concepts:
        try:
            files = _files_in(concept.path, concept.include_subdirectories)
        except DataError:
            passed_over.append((concept.path.name, "no images"))
            continue
        bare = _add_files(files, concept, found)
        used.append(describe_folder(concept, len(files.images), bare))
    loose = [path for path, reason in walk(parent.path, deep=False) if not reason]
    loose = [path for path in loose if _is_image(path)]
    if not used:
        found.problems[parent.path] = no_numbered_folder(parent.path, bool(loose))
        return
    found.remarks += numbered_remarks(parent.path, used, passed_over, len(loose))


@dataclasses.dataclass(frozen=True)
class _Files:
    images: list[Path]
    labels: list[Path]
    passed_over: list[str]
    """Reasons for skipping images that are hidden or in system folders."""

    unread: list[Path]
    """Images in unsupported formats."""

    links: Links
    """Symbolic links that are not followed."""

    special: list[Path]
    """Pipes, sockets and devices with names of images."""

    seen: list[Path]
    """All files and folders, except for hidden and system ones."""


def _files_in(folder: Path, deep: bool) -> _Files:
    names = walk(folder, deep=deep)
    seen = [path for path, reason in names if not reason]
    found = _Files(
        images=[path for path in seen if _is_image(path)],
        labels=[path for path in seen if is_label(path) and path.is_file()],
        passed_over=[r for path, r in names if r and _is_image(path)],
        unread=[path for path in seen if _is_unread(path)],
        links=find_links(seen, deep=deep),
        special=[path for path in seen if is_image_name(path) and _is_special(path)],
        seen=seen,
    )
    if found.images:
        return found
    raise DataError(f"The folder {folder} contains no images. {_hint(found, deep)}.")


def _hint(found: _Files, deep: bool) -> str:
    """Return a hint for a folder without images."""
    inside = [path for path in found.seen if path.is_dir()]
    if inside and not deep:
        numbered = [path for path in inside if has_repeats(path.name)]
        if numbered:
            return (
                "Its subfolders are not searched. Set subfolder_repeats to use those "
                f"with repeats in their names ({numbered[0].name})"
            )
        return (
            "Its subfolders are not searched. Set include_subdirectories, or add "
            f"them as separate concepts ({inside[0]})"
        )
    if found.links.broken:
        broken = found.links.broken
        what = counted(
            len(broken),
            "broken symbolic link was found",
            "broken symbolic links were found",
        )
        return f"{what} ({broken[0].name}). Restore or correct the link targets"
    if found.links.folders:
        return (
            "Subfolders that are symbolic links are not searched. Add their targets "
            f"as separate concepts ({found.links.folders[0]})"
        )
    if found.passed_over:
        hint = counted(
            len(found.passed_over),
            "hidden image is skipped",
            "hidden images are skipped",
        )
        return f"{hint} ({found.passed_over[0]})"
    if found.unread:
        return (
            f"Images in other formats ({_formats(found.unread)}) are not supported. "
            f"{_remedy(found.unread)}"
        )
    if found.labels:
        return (
            "Files named as masks are not used as training images "
            f"({found.labels[0].name})"
        )
    return "Put images (" + ", ".join(sorted(IMAGE_SUFFIXES)) + ") into it"


def _is_image(path: Path) -> bool:
    return is_image_name(path) and path.is_file() and not is_label(path)


def _is_unread(path: Path) -> bool:
    return is_other_image_name(path) and path.is_file() and not is_label(path)


def _formats(paths: Sequence[Path]) -> str:
    counts = collections.Counter(path.suffix.lower() for path in paths).most_common()
    return ", ".join(f"{suffix} ({count})" for suffix, count in counts)


def _remedy(paths: Sequence[Path]) -> str:
    suffixes = {path.suffix.lower() for path in paths}
    found = f"Convert them to one of {', '.join(sorted(IMAGE_SUFFIXES))}"
    package = missing_package(suffixes)
    return f"{found}. {package}" if package else found


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _special(paths: Sequence[Path], folder: Path) -> Iterator[str]:
    if paths:
        count = counted(
            len(paths), "pipe or device is skipped", "pipes or devices are skipped"
        )
        yield f"{folder}: {count}: {', '.join(path.name for path in paths[:_SHOWN])}."


def _unread(paths: Sequence[Path], folder: Path) -> Iterator[str]:
    if paths:
        yield (
            f"{folder}: images in unsupported formats are skipped: "
            f"{_formats(paths)}. {_remedy(paths)}."
        )


def _passed_over(reasons: Sequence[str], folder: Path) -> Iterator[str]:
    if not reasons:
        return
    counts = collections.Counter(reasons).most_common()
    places = ", ".join(f"{place} ({count})" for place, count in counts[:3])
    more = " ..." if len(counts) > 3 else ""
    found = counted(
        len(reasons),
        f"hidden image in {folder} is skipped",
        f"hidden images in {folder} are skipped",
    )
    yield f"{found}: {places}{more}."


def refuse(problems: Mapping[Path, str], most: int | None = _SHOWN) -> None:
    """Raise an error if there are problems.

    Args:
        problems: messages by folder or caption file.
        most: maximum number of messages in the error. None means all of them.

    Raises:
        DataError: If there are problems. The message has a line for each of them.
    """
    if not problems:
        return
    messages = list(dict.fromkeys(problems.values()))
    more = 0 if most is None else len(messages) - most
    shown = messages[:most] + (
        [f"{more} more messages like these are not shown."] if more > 0 else []
    )
    raise DataError("\n".join(shown))

"""Unpacking of uploaded zip files: only images and captions, bounded, in a folder."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from ..._exceptions import reason_of
from ...data.image_formats import is_image_name
from ...data.preview_image import check_image
from ...data.unreadable import UnreadableImage
from .security import Refusal
from .served_files import check_new_name
from .upload_rules import TEXTS, Added, Limits, on_disk

__all__ = ["unpack"]

_CHUNK = 1 << 18
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DEEPEST = 8
# Files that systems put into archives.
_JUNK = ("__macosx", ".ds_store", "thumbs.db", "desktop.ini")
_ENCRYPTED = 0x1
# Of zipfile, zlib and struct for damaged files: names that are no text, positions
# before the beginning.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    ValueError,
    OverflowError,
    OSError,
)
# Small archives of texts may shrink more than images.
_FREE_BYTES = 16 << 20


def unpack(path: Path, folder: Path, limits: Limits) -> Added:
    """Unpack a zip file into an empty folder.

    Args:
        path: zip file.
        folder: empty folder.
        limits: largest sizes.

    Returns:
        The files, relative to the folder, and those that were skipped.

    Raises:
        Refusal: If an entry leads out of the folder, is a link or encrypted, or the
            files are too large or too many.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _checked(archive, path.stat().st_size, limits)
            files, skipped = [], []
            budget = limits.unpacked
            for name, info in entries:
                problem = _problem(Path(name), info, limits)
                if not problem:
                    target = folder / name
                    with on_disk():
                        target.parent.mkdir(parents=True, exist_ok=True)
                    budget -= _copy(archive, info, target, min(budget, info.file_size))
                    problem = _damage(target)
                if problem:
                    skipped.append(f"{name} {problem}")
                else:
                    files.append(name)
    except _DAMAGED as error:
        raise Refusal(415, f"The zip file is damaged: {reason_of(error)}.") from error
    if not files:
        raise Refusal(415, _nothing_in(skipped))
    return Added(folder, files, skipped)


def _nothing_in(skipped: list[str]) -> str:
    if not skipped:
        return "The zip file contains no images and no captions."
    more = f" and {len(skipped) - 1} more" if len(skipped) > 1 else ""
    return f"No file of the zip file can be used: {skipped[0]}{more}."


def _checked(
    archive: zipfile.ZipFile, size: int, limits: Limits
) -> list[tuple[str, zipfile.ZipInfo]]:
    """Check all entries before any is written. Return the files with their paths."""
    found: dict[str, zipfile.ZipInfo] = {}
    infos = archive.infolist()
    if len(infos) > 2 * limits.files:
        raise Refusal(413, f"A dataset may have at most {limits.files} files.")
    for info in infos:
        name = _checked_name(info)
        if info.is_dir() or any(
            part.lower() in _JUNK or part.startswith("._") for part in name.split("/")
        ):
            continue
        for part in name.split("/"):
            check_new_name(part)
        _check_kind(info)
        # File systems of Windows and macOS ignore case.
        if name.casefold() in found:
            raise Refusal(400, f"The zip file contains {name[:80]!a} twice.")
        found[name.casefold()] = info
    for name in found:
        above = name.rpartition("/")[0]
        while above:
            if above in found:
                raise Refusal(
                    400, f"The zip file has {above[:80]!a} as a file and as a folder."
                )
            above = above.rpartition("/")[0]
    total = sum(info.file_size for info in found.values())
    if len(found) > limits.files:
        raise Refusal(413, f"A dataset may have at most {limits.files} files.")
    if total > limits.unpacked or total > limits.ratio * size + _FREE_BYTES:
        raise Refusal(
            413, "The files of the zip file are too large. Upload them in parts."
        )
    return [(_checked_name(info), info) for info in found.values()]


def _checked_name(info: zipfile.ZipInfo) -> str:
    # The name in the file itself: zipfile cuts it at a zero byte, and Windows
    # changes backslashes.
    name = info.orig_filename
    parts = name.rstrip("/").split("/")
    if (
        "\\" in name
        or "\0" in name
        or name.startswith("/")
        or ":" in name
        or any(part in ("", ".", "..") for part in parts)
        or len(parts) > _DEEPEST
    ):
        raise Refusal(400, f"The zip file has an entry {name[:80]!a} outside of it.")
    return name.rstrip("/")


def _check_kind(info: zipfile.ZipInfo) -> None:
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise Refusal(400, "The zip file contains a link. Replace it by the file.")
    if info.flag_bits & _ENCRYPTED:
        raise Refusal(400, "The zip file is encrypted. Upload one without password.")
    if info.compress_type not in _METHODS:
        raise Refusal(415, "The zip file uses a compression other than Deflate.")


def _problem(path: Path, info: zipfile.ZipInfo, limits: Limits) -> str:
    """Return why an entry is skipped, or ""."""
    if path.suffix.lower() in TEXTS:
        return "is too large" if info.file_size > limits.text else ""
    if not is_image_name(path):
        return "is no image and no caption"
    return "is too large" if info.file_size > limits.image else ""


def _copy(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, most: int
) -> int:
    """Write an entry to a file. Return its size."""
    count = 0
    with archive.open(info) as source, on_disk(), target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            count += len(chunk)
            if count > most:
                raise Refusal(413, "The files of the zip file are too large.")
            _write(file, chunk)
    return count


def _write(file: BinaryIO, data: bytes) -> None:
    with on_disk():
        file.write(data)


def _damage(path: Path) -> str:
    """Return why a file is not used, or ""."""
    if path.suffix.lower() in TEXTS:
        return ""
    try:
        check_image(path)
    except UnreadableImage as error:
        return f"cannot be read ({error})"
    return ""

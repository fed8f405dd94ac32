"""Uploads of images, captions and zip files into folders of the server."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from starlette.requests import Request

from ..._exceptions import OutputError
from ...data.image_formats import is_image_name
from ...data.preview_image import check_image
from ...data.unreadable import UnreadableImage
from ...files.atomic import atomic_write
from .security import Refusal, whole_number
from .served_files import check_new_name
from .upload_rules import TEXTS, Added, Limits, check_count, check_space, on_disk
from .zip_upload import unpack

__all__ = ["Uploads"]

_DATASET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 _-]{0,62}[A-Za-z0-9_-])?")
# Hidden, so that it is not served.
_INCOMING = ".incoming"
_OLD_SECONDS = 86400.0
_AT_ONCE = 4
_CHUNK = 1 << 20
_DIGITS = 19


class Uploads:
    """Folder with uploaded datasets.

    Args:
        folder: folder in which each dataset has a folder.
        limits: largest sizes.
    """

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.folder = folder
        self.limits = limits or Limits()
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def take(self, request: Request, dataset: str, name: str) -> Added:
        """Receive a file and add it to a dataset, or the files of a zip file.

        Raises:
            Refusal: If it is not allowed, too large, or there is no space. Nothing was
                added then.
        """
        target = self._folder_of(dataset)
        check_new_name(name)
        suffix = Path(name).suffix.lower()
        most = self._limit(Path(name))
        length = request.headers.get("content-length", "")
        # A size that is not known is counted while it is received.
        size = whole_number(length, _DIGITS) or 0
        _check_size(size, most)
        check_space(self.folder, size, self.limits)
        async with self._turn:
            with self._incoming() as place:
                part = place / f"part{suffix}"
                await self._receive(request, part, most)
                add = _add_archive if suffix == ".zip" else _add_file
                return await asyncio.to_thread(add, part, target, name, self.limits)

    def clean(self) -> None:
        """Remove files that a killed server has left."""
        for place in self._incoming_folder.glob("*"):
            with contextlib.suppress(OSError):
                if time.time() - place.stat().st_mtime > _OLD_SECONDS:
                    shutil.rmtree(place, ignore_errors=True)

    @property
    def _incoming_folder(self) -> Path:
        return self.folder / _INCOMING

    @contextlib.contextmanager
    def _incoming(self) -> Iterator[Path]:
        place = self._incoming_folder / secrets.token_hex(8)
        with on_disk():
            place.mkdir(parents=True)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _folder_of(self, dataset: str) -> Path:
        if not _DATASET.fullmatch(dataset):
            raise Refusal(
                400,
                f"The dataset name {dataset[:80]!a} is not allowed. Use letters, "
                "digits, spaces, - and _.",
            )
        folder = self.folder / check_new_name(dataset)
        if folder.is_symlink():
            raise Refusal(403, "Links to other folders are not written to.")
        return folder

    def _limit(self, path: Path) -> int:
        suffix = path.suffix.lower()
        if suffix == ".zip":
            return self.limits.archive
        if suffix in TEXTS:
            return self.limits.text
        if is_image_name(path):
            return self.limits.image
        raise Refusal(
            415, f"{path.name} is not an image, a caption (.txt) or a zip file."
        )

    async def _receive(self, request: Request, part: Path, most: int) -> None:
        """Write the body of a request to a file."""
        size, waiting = 0, bytearray()
        with on_disk():
            file = part.open("xb")
        with contextlib.closing(file):
            async for chunk in request.stream():
                size += len(chunk)
                _check_size(size, most)
                waiting += chunk
                if len(waiting) >= _CHUNK:
                    await asyncio.to_thread(self._write, file, bytes(waiting))
                    waiting.clear()
            await asyncio.to_thread(self._write, file, bytes(waiting))

    def _write(self, file: BinaryIO, data: bytes) -> None:
        check_space(self.folder, len(data), self.limits)
        with on_disk():
            file.write(data)
            file.flush()


def _add_file(part: Path, folder: Path, name: str, limits: Limits) -> Added:
    """Check a file and move it to its dataset."""
    path = folder / name
    if part.suffix in TEXTS:
        _check_text(part)
    else:
        try:
            check_image(part)
        except UnreadableImage as error:
            raise Refusal(415, f"{name} cannot be read: {error}.") from None
    check_count(folder, 1, limits)
    _move_new(part, path)
    return Added(folder, [name])


def _add_archive(part: Path, folder: Path, name: str, limits: Limits) -> Added:
    place = part.with_name("files")
    with on_disk():
        place.mkdir()
    found = unpack(part, place, limits)
    check_count(folder, len(found.files), limits)
    taken = [name for name in found.files if (folder / name).exists()]
    if taken:
        raise Refusal(409, f"{taken[0]} is already in this dataset. Use another one.")
    for file in found.files:
        _move_new(place / file, folder / file)
    return dataclasses.replace(found, folder=folder)


def _move_new(part: Path, path: Path) -> None:
    """Move a file to a new name, in one step.

    Raises:
        Refusal: If there is a file with this name, or no space.
    """
    if path.exists():
        raise Refusal(409, f"{path.name} is already in this dataset.")
    try:
        with atomic_write(path, overwrite=False) as reserved:
            os.replace(part, reserved)
    except OutputError as error:
        if path.exists():
            message = f"{path.name} is already in this dataset."
            raise Refusal(409, message) from error
        raise Refusal(507, "The disk of the server is full or not writable.") from error


def _check_text(path: Path) -> None:
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise Refusal(415, "The caption is not a text in UTF-8.")


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise Refusal(
            413, f"The file is too large: at most {_megabytes(most)} are allowed."
        )


def _megabytes(size: int) -> str:
    return f"{size / (1 << 30):g} GB" if size >= 1 << 30 else f"{size / (1 << 20):g} MB"

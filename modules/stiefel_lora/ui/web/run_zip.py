"""A run folder as a zip file, which is written while it is sent."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["zip_of_run"]

_CHUNK = 1 << 18
# Files of the process, and optimizer states of many gigabytes.
_LEFT_OUT = ("commands", ".locks")
_CHECKPOINTS = "checkpoints"


class _Sink:
    """File that can only be written to, whose content is taken out in parts."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Append some bytes."""
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing, which zipfile requires."""

    def taken(self) -> bytes:
        """Return and forget what was written."""
        found = b"".join(self._parts)
        self._parts.clear()
        return found


def zip_of_run(run_dir: Path, *, checkpoints: bool) -> Iterator[bytes]:
    """Yield the parts of a zip file with the files of a run. Links are left out.

    Args:
        run_dir: run folder.
        checkpoints: whether to include checkpoints, which can be large.
    """
    sink = _Sink()
    # Stored: images and weights do not get smaller.
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:  # type: ignore
        for path in _files(run_dir, checkpoints):
            place = path.relative_to(run_dir.parent).as_posix()
            try:
                info = zipfile.ZipInfo.from_file(path, place, strict_timestamps=False)
                source = path.open("rb")
            except OSError:
                # A checkpoint may be removed at any time.
                continue
            # Events grow while they are read, and a member of 4 GiB needs this.
            with source, archive.open(info, "w", force_zip64=True) as member:
                while chunk := source.read(_CHUNK):
                    member.write(chunk)
                    yield sink.taken()
    yield sink.taken()


def _files(run_dir: Path, checkpoints: bool) -> Iterator[Path]:
    for folder, names, files in os.walk(run_dir, followlinks=False):
        here = Path(folder)
        if here == run_dir:
            skipped = {*_LEFT_OUT, *(() if checkpoints else (_CHECKPOINTS,))}
            names[:] = [name for name in names if name not in skipped]
        names.sort()
        for name in sorted(files):
            path = here / name
            if path.is_file() and not path.is_symlink():
                yield path

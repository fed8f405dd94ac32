"""Atomic writing of files."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Generator
from pathlib import Path

from .._exceptions import OutputError

__all__ = ["atomic_write", "sigterm_raises"]

# Older partial files come from a process that was killed during a write.
_STALE_SECONDS = 3600.0


@contextlib.contextmanager
def atomic_write(
    path: str | os.PathLike[str], *, overwrite: bool = True
) -> Generator[Path, None, None]:
    """Yield a temporary path next to ``path``, which is renamed to ``path`` at the end.

    The body of the ``with`` block writes the temporary file. At the end, the file is
    flushed to disk and renamed. If an exception is raised, the temporary file is
    removed and ``path`` is not changed, also by SIGTERM. Missing folders are created.

    Args:
        path: path of the file.
        overwrite: whether to replace a file that exists at the end.

    Raises:
        OutputError: If the file cannot be written, or exists.
    """
    # A rename over a link would replace the link instead of the file behind it. The
    # temporary file is in the same folder, since a rename is atomic only within one
    # file system.
    target = Path(os.path.realpath(path))
    part = None
    stack = contextlib.ExitStack()
    try:
        stack.enter_context(sigterm_raises())
        target.parent.mkdir(parents=True, exist_ok=True)
        part = _reserve(target)
        yield part
        # Before the rename: otherwise, after a power failure, the new name may belong
        # to a file without content.
        _flush(part)
        if overwrite:
            os.replace(part, target)
        else:
            _rename_new(part, target)
        # From here on another writer may use the temporary name.
        part = None
        _flush_folder(target.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"{target} could not be written: {reason}. The existing file, if any, "
            "was not changed. Free disk space, or use another folder."
        ) from error
    finally:
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink()
        stack.close()


@contextlib.contextmanager
def sigterm_raises() -> Generator[None, None, None]:
    """Raise SystemExit at SIGTERM, so that temporary files are removed.

    Handlers of the program are not replaced. Has no effect outside of the main thread.
    """
    own = threading.current_thread() is threading.main_thread()
    if not own or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: object) -> None:
        # The exit code of a program that a signal ended.
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _rename_new(part: Path, target: Path) -> None:
    """Rename a file to a name that does not exist.

    Raises:
        OutputError: If the name exists.
    """
    try:
        # Unlike a rename, a link is an error if the name exists.
        os.link(part, target)
    except OSError as error:
        # Not every file system has links.
        if isinstance(error, FileExistsError) or target.exists():
            raise OutputError(
                f"{target} was created by another program in the meantime, and was not "
                "changed. Use another name."
            ) from None
        os.replace(part, target)
    else:
        part.unlink()


def _reserve(target: Path) -> Path:
    """Create an empty temporary file next to ``target``."""
    for number in itertools.count():
        part = target.with_name(f".{target.name}.{number}.part")
        # Another writer may remove or rename its file between these calls.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > _STALE_SECONDS:
                part.unlink()
        with contextlib.suppress(FileExistsError):
            part.touch(exist_ok=False)
            return part
    raise AssertionError("unreachable: the loop always returns")


def _flush(part: Path) -> None:
    # Windows can only flush through a handle that is open for writing.
    with part.open("r+b") as handle:
        os.fsync(handle.fileno())


def _flush_folder(folder: Path) -> None:
    # The rename is done; where folders cannot be flushed, the system writes them later.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""Lock that allows only one process to write to a run folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .._exceptions import OutputError
from .._locks import Lock
from .commands import take_commands
from .progress import say
from .run_folder import RunFolder

__all__ = ["hold_run", "run_lock_path"]

_held: set[Path] = set()


def run_lock_path(run_dir: Path) -> Path:
    """Return the lock file of ``run_dir``."""
    # Beside the run folder: a job holds its lock before the folder exists, and while it
    # removes what a killed attempt left in it (jobs.worker).
    return run_dir.parent / ".locks" / f"{run_dir.name}.lock"


@contextlib.contextmanager
def hold_run(run_dir: Path, *, needed: bool = True) -> Iterator[None]:
    """Lock a run folder in a ``with`` block. The lock is reentrant within this process.

    Pending commands are removed when the lock is acquired, because they were sent to an
    earlier process.

    Args:
        run_dir: run folder. Its parent folder is created if missing.
        needed: whether to raise an error if the file system does not support locks. A
            queue requires locks to detect ended processes.

    Raises:
        OutputError: If another process holds the lock, or the lock cannot be created.
    """
    path = run_lock_path(run_dir.absolute())
    if path in _held:
        yield
        return
    lock = Lock(path)
    if not _claim(lock, needed):
        raise OutputError(
            f"Another process is using {run_dir}. Wait until it ends, or stop it "
            f'with: stiefel-lora tell stop "{run_dir}"'
        )
    _held.add(path)
    try:
        _discard_commands(RunFolder(run_dir))
        yield
    finally:
        _held.discard(path)
        lock.release()


def _discard_commands(folder: RunFolder) -> None:
    void = take_commands(folder.commands)
    if void:
        say(
            f"{folder.commands}: ignored {', '.join(sorted(void))}, which was left "
            "over from an earlier process."
        )


def _claim(lock: Lock, needed: bool) -> bool:
    try:
        return lock.claim()
    except OutputError as error:
        if needed:
            raise
        say(f"{error} The run folder is not protected from other processes.")
        return True

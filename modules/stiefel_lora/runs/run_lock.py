"""One process at a time writes into the folder of a run.

The claim is the start of a process in that folder: orders from before it are void.
"""

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
    """Lock of the process that writes ``run_dir``, whoever started it."""
    return run_dir.parent / ".locks" / f"{run_dir.name}.lock"


@contextlib.contextmanager
def hold_run(run_dir: Path, *, needed: bool = True) -> Iterator[None]:
    """Claim a run until the block ends; inside a claim of this process, again.

    The first claim removes the orders that wait in the folder: they were for an earlier
    process. Those that come after it are for this one, also while it still loads.

    Args:
        run_dir: folder of the run; its parent is made when missing.
        needed: whether a disk that knows no locks is an error. Training by hand goes
            on there, as it would without this guard; a queue could not tell who lives.

    Raises:
        OutputError: another process has it, or there can be no lock.
    """
    path = run_lock_path(run_dir.absolute())
    if path in _held:
        yield
        return
    lock = Lock(path)
    if not _claim(lock, needed):
        raise OutputError(
            f"Another process writes to {run_dir}; wait for it to end, or stop it "
            f'with: stiefel-lora tell stop "{run_dir}"'
        )
    _held.add(path)
    try:
        _void_orders(RunFolder(run_dir))
        yield
    finally:
        _held.discard(path)
        lock.release()


def _void_orders(folder: RunFolder) -> None:
    void = take_commands(folder.commands)
    if void:
        say(
            f"{folder.commands}: ignored {', '.join(sorted(void))}, which was left "
            f"there before this start."
        )


def _claim(lock: Lock, needed: bool) -> bool:
    try:
        return lock.claim()
    except OutputError as error:
        if needed:
            raise
        say(f"{error} Nothing keeps a second process from going on with this run.")
        return True

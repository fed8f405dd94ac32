"""Locks that the operating system releases when their holder dies, however it dies.

Process ids are reused and clocks are changed, but a lock is either held or not: a held
lock is the proof that a run or a runner is alive.
"""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from ._exceptions import OutputError

__all__ = ["Lock", "is_held"]

# Testing whether a lock is held takes it for an instant; a claim waits longer.
_CLAIM_SECONDS = 2.0


class Lock:
    """A claim on something that one process may have at a time."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path, thread_local=False)

    def claim(self, seconds: float = _CLAIM_SECONDS) -> bool:
        """Take the lock. Return False if another process keeps it.

        Raises:
            OutputError: If the file cannot be written, or its disk does not support
                locks.
        """
        path = Path(self._lock.lock_file)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=seconds, poll_interval=0.02)
        except Timeout:
            return False
        except (OSError, NotImplementedError) as error:
            raise OutputError(
                f"The lock {path} could not be acquired ({error}). It requires a "
                "writable folder on a local disk."
            ) from error
        return True

    def release(self) -> None:
        """Release the lock. Its file stays, since deleting it would let two in."""
        self._lock.release()


def is_held(path: Path) -> bool:
    """Return whether some process, this one included, holds the lock."""
    if not path.exists():
        return False
    lock = Lock(path)
    if not lock.claim(0):
        return True
    lock.release()
    return False

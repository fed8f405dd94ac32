"""File locks that are released by the operating system when a process ends.

A held lock shows that a process is still running, unlike process IDs and times.
"""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from ._exceptions import OutputError

__all__ = ["Lock", "is_held"]

# Testing whether a lock is held takes it for an instant; a claim waits longer.
_CLAIM_SECONDS = 2.0


class Lock:
    """Lock that only one process can hold at a time."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path, thread_local=False)

    def claim(self, seconds: float = _CLAIM_SECONDS) -> bool:
        """Acquire the lock. Return False if another process holds it.

        Raises:
            OutputError: If the file cannot be written, or the file system does not
                support locks.
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
        """Release the lock. The file is not deleted."""
        self._lock.release()


def is_held(path: Path) -> bool:
    """Return whether any process holds the lock, including this one."""
    if not path.exists():
        return False
    lock = Lock(path)
    if not lock.claim(0):
        return True
    lock.release()
    return False

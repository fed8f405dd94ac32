"""TensorBoard server in a separate process."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from pathlib import Path

from ..._exceptions import OutputError
from ..._wording import quoted

__all__ = ["TensorBoardServer", "tensorboard_command"]


def tensorboard_command(folder: Path) -> str:
    """Return a command for a shell that starts TensorBoard for a folder."""
    return f"{quoted(sys.executable)} -m tensorboard.main --logdir {quoted(folder)}"


class TensorBoardServer:
    """TensorBoard server for a folder."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def address(self) -> str:
        """URL of the server."""
        return f"http://localhost:{self._port}/"

    def start(self, folder: Path) -> None:
        """Start the server for a folder. A running server is stopped first.

        Raises:
            OutputError: If the process cannot be started.
        """
        self.stop()
        self._port = _free_port()
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder)]
        try:
            self._child = subprocess.Popen(
                [*command, "--port", str(self._port)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise OutputError(
                f"TensorBoard cannot be started ({error.strerror})."
            ) from error

    def answers(self) -> bool:
        """Return whether the server accepts connections."""
        with contextlib.suppress(OSError):
            socket.create_connection(("localhost", self._port), timeout=0.2).close()
            return True
        return False

    @property
    def ended(self) -> bool:
        """Return whether the server is not running."""
        return self._child is None or self._child.poll() is not None

    def stop(self) -> None:
        """Stop the server."""
        if self._child is not None:
            self._child.terminate()
            self._child.wait(10)
        self._child = None


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])

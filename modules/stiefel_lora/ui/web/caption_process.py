"""Automatic captions, written by a process of the server for all browsers."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from pathlib import Path

from ..._exceptions import ConfigError
from ...config.path_text import expanded, is_hub_name
from ..controllers.auto_captions import (
    EXAMPLE,
    LOADING,
    STOPPED,
    CaptionRequest,
    WrittenCaptions,
    progress_in,
    result_of,
)
from ..controllers.memory import home
from .served_images import DatasetRoots

__all__ = ["CaptionProcess", "usable_model"]

_MOST_LINES = 200
# Bytes of a line of the output.
_MOST_BYTES = 1 << 20


class CaptionProcess:
    """Process that writes captions. There is one at a time.

    It continues when the browser that started it is closed.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.lines: deque[str] = deque(maxlen=_MOST_LINES)
        """Last captions that were written."""

        self.progress: tuple[int, int] | None = None
        """Number of the last image and number of images, once known."""

        self.note, self.failed = "", False
        """Message for the user, and whether it is an error."""

        self.revision = 0
        """Number that grows with every change."""

        self._process: asyncio.subprocess.Process | None = None
        self._busy = self._stopped = False

    @property
    def is_running(self) -> bool:
        """Return whether captions are being written."""
        return self._busy

    async def run(
        self,
        request: CaptionRequest,
        make_record: Callable[[], WrittenCaptions],
    ) -> str:
        """Write captions until the process has ended or was stopped.

        Args:
            request: the command.
            make_record: function that reads the captions before, for an undo.

        Returns:
            A message with the number of captions.

        Raises:
            ConfigError: If captions are being written already.
            OutputError: If a caption file cannot be read.
        """
        if self._busy:
            raise ConfigError(
                f"Captions of {self.folder} are being written. Wait, or stop them."
            )
        self._busy, self._stopped = True, False
        self.folder, self.progress = request.folder, None
        self.lines.clear()
        self._tell(LOADING)
        try:
            record = await asyncio.to_thread(make_record)
            note, failed = await self._run(request)
            self._tell(note, failed=failed)
            return await asyncio.to_thread(record.record)
        finally:
            self._busy, self._process = False, None
            self.revision += 1

    def stop(self) -> None:
        """End the process. The captions that were written are kept."""
        self._stopped = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def _tell(self, note: str, *, failed: bool = False) -> None:
        self.note, self.failed = note, failed
        self.revision += 1

    async def _run(self, request: CaptionRequest) -> tuple[str, bool]:
        pipe = asyncio.subprocess.PIPE
        home().mkdir(parents=True, exist_ok=True)
        process = self._process = await asyncio.create_subprocess_exec(
            *request.command(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            limit=_MOST_BYTES,
            # A name on the Hub must not mean a folder of the working folder.
            cwd=home(),
        )
        if self._stopped:
            self.stop()
        assert process.stdout is not None
        assert process.stderr is not None
        errors = asyncio.create_task(process.stderr.read())
        last = ""
        while line := await process.stdout.readline():
            last = line.decode(errors="replace").rstrip()
            self.lines.append(last)
            self.progress = progress_in(f"{last}\n") or self.progress
            self._tell("")
        text = (await errors).decode(errors="replace").strip()
        code = await process.wait()
        return (STOPPED, False) if self._stopped else result_of(code, last, text)


def usable_model(text: str, models: DatasetRoots) -> str:
    """Return the model of a request if a browser may choose it.

    Args:
        text: folder or name, as entered.
        models: folders with models.

    Raises:
        ConfigError: If it is neither a name on the Hugging Face Hub nor a folder below
            those of the server.
    """
    path = expanded(text)
    if path.is_absolute() and models.contains(path) and path.exists():
        return str(path.resolve())
    if is_hub_name(text):
        return text
    # The same for paths that exist and that do not.
    raise ConfigError(
        f"Model: must be a name on the Hugging Face Hub, such as {EXAMPLE}, or a "
        "folder below one that the server was started with (--models FOLDER)."
    )

"""Checks of the model, memory and hardware by the server, for all browsers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from nicegui import background_tasks

from ...._exceptions import OutputError
from ...controllers.findings import Findings
from ...controllers.machine_result import MachineResult
from ...controllers.memory import home

if TYPE_CHECKING:
    from ..context import WebContext

__all__ = ["ServerCheck", "check_of_server"]

# Seconds after the last change before the process is started.
_WAIT_SECONDS = 2.0


class ServerCheck:
    """Run ``stiefel-lora validate`` for settings that have no other errors.

    Args:
        context: settings of the server.
    """

    def __init__(self, context: WebContext) -> None:
        self._context = context
        self._result = MachineResult()
        self._process: asyncio.subprocess.Process | None = None
        self._turn = 0
        self.watchers: list[Callable[[], None]] = []
        """Functions that are called when there is a result."""

    def findings(self) -> Findings:
        """Return errors and warnings, with those of the machine once known."""
        findings, document = self._context.findings(), self._context.document
        merged = self._result.merged(findings, document.data, document.optimizer)
        if merged is not None:
            return merged
        wanted = self._result.wanted
        known = wanted is not None and wanted[0] == document.data
        if not known and self._result.want(findings, document.data):
            self._turn += 1
            background_tasks.create(self._check(self._turn))
        return findings

    def stop(self) -> None:
        """End the process."""
        self._turn += 1
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _check(self, turn: int) -> None:
        await asyncio.sleep(_WAIT_SECONDS)
        if turn != self._turn:
            return
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        try:
            command = self._result.command(home() / "web-check.json")
        except OutputError:
            return
        if command is None:
            return
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *command, stdin=null, stdout=pipe, stderr=null
        )
        self._process = process
        output, _ = await process.communicate()
        if turn == self._turn and self._result.take(output.decode(errors="replace")):
            for watcher in list(self.watchers):
                watcher()


_checks: WeakKeyDictionary[WebContext, ServerCheck] = WeakKeyDictionary()


def check_of_server(context: WebContext) -> ServerCheck:
    """Return the check that all browsers share."""
    found = _checks.get(context)
    if found is None:
        found = _checks[context] = ServerCheck(context)
    return found

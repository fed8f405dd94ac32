"""Messages in the browser, and functions that show errors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from nicegui import run, ui

from ...._exceptions import StiefelLoraError

__all__ = ["Message", "attempt", "attempt_in_thread", "complain", "dialog_box"]

Result = TypeVar("Result")


class Message:
    """Message below a field. It is hidden if empty."""

    def __init__(self) -> None:
        self.label = ui.label().classes("sl-note")
        self.label.set_visibility(False)
        self._tone = ""

    def say(self, text: str, tone: str) -> None:
        """Show a message in the color of a tone: error, remark or quiet."""
        if text != self.label.text:
            self.label.set_text(text)
            self.label.set_visibility(bool(text))
        if tone != self._tone:
            self.label.classes(add=f"sl-{tone}", remove=f"sl-{self._tone}")
            self._tone = tone


@contextlib.contextmanager
def dialog_box() -> Iterator[ui.dialog]:
    """Show a dialog with the elements of the block, and delete it when it is closed."""
    with ui.dialog() as dialog, ui.column().classes("sl-dialog"):
        yield dialog
    dialog.on("hide", dialog.delete)
    dialog.open()


def complain(text: str) -> None:
    """Show an error message until it is closed."""
    ui.notification(
        text,
        type="negative",
        position="top",
        timeout=None,
        close_button="Close",
        multi_line=True,
    )


def attempt(action: Callable[[], object]) -> bool:
    """Call a function and show its error. Return whether there was none."""
    try:
        action()
    except (StiefelLoraError, OSError) as error:
        complain(str(error))
        return False
    return True


async def attempt_in_thread(action: Callable[[], Result]) -> Result | None:
    """Call a function in a thread and show its error.

    Returns:
        The result, or None after an error.
    """
    try:
        return await run.io_bound(action)
    except (StiefelLoraError, OSError) as error:
        complain(str(error))
        return None

"""Chooser of a text file on the machine of the browser."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import events, ui

__all__ = ["FileReader"]


class FileReader(ui.element, component="file_reader.js"):
    """File input that sends the text of a file to the server.

    Args:
        endings: allowed extensions, separated by commas.
        take: function that is called with the name and the text.
    """

    def __init__(
        self, endings: str, take: Callable[[str, str], Awaitable[None]]
    ) -> None:
        super().__init__()
        self.props["accept"] = endings

        async def arrived(event: events.GenericEventArguments) -> None:
            await take(str(event.args["name"]), str(event.args["text"]))

        self.on("file", arrived)

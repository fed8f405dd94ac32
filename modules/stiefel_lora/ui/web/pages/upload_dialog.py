"""Dialog that uploads images to a dataset folder of the server."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nicegui import events, ui

from ...controllers.concept_list import add_folders, include_subfolders
from .message_box import Message, dialog_box

if TYPE_CHECKING:
    from .browser_session import BrowserSession

__all__ = ["open_upload"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,63}")
_RULE = "Use letters, digits, spaces, - and _ for the name."


class UploadBox(ui.element, component="upload_box.js"):
    """Input for files that are uploaded to a dataset.

    Args:
        dataset: name of the dataset.
        uploaded: function that is called with the folder.
    """

    def __init__(self, dataset: str, uploaded: Callable[[Path], None]) -> None:
        super().__init__()
        self.props["dataset"] = dataset

        def arrived(event: events.GenericEventArguments) -> None:
            uploaded(Path(str(event.args["folder"])))

        self.on("uploaded", arrived)


def open_upload(session: BrowserSession, uploaded: Callable[[Path], None]) -> None:
    """Show the dialog.

    Args:
        session: state of the page.
        uploaded: function that is called with the folder after an upload.
    """
    document = session.context.document

    def renamed() -> None:
        text = str(name.value or "").strip()
        valid = _NAME.fullmatch(text) is not None
        note.say("" if valid else _RULE, "error")
        box.set_visibility(valid)
        box.props["dataset"] = text

    def arrived(folder: Path) -> None:
        # A folder of the list is not added again.
        add_folders(document, [folder])
        # Those of a zip file would not be used otherwise.
        include_subfolders(document, folder)
        uploaded(folder)

    with dialog_box() as dialog:
        ui.label("Upload images").classes("sl-title")
        ui.label(
            "The files are stored on the server, and their folder is added to the "
            "image folders."
        ).classes("sl-quiet")
        name = ui.input("Name of the folder", value="images", on_change=renamed)
        name.props("outlined dense").classes("w-full")
        note = Message()
        box = UploadBox("images", arrived)
        with ui.row().classes("w-full justify-end"):
            ui.button("Close", on_click=dialog.close).props("no-caps flat")

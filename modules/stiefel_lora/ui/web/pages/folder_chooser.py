"""Chooser of a folder with images on the server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nicegui import ui

from .message_box import dialog_box

if TYPE_CHECKING:
    from ..served_images import DatasetRoots

__all__ = ["choose_folder"]

_HINT = (
    "Image folders of this server. Start the server with --data FOLDER to add others."
)


def choose_folder(roots: DatasetRoots, text: str, take: Callable[[Path], None]) -> None:
    """Show the folders below the roots in a dialog.

    Args:
        roots: folders whose images may be shown.
        text: path that is shown first, if it is below a root.
        take: function that is called with the chosen folder.
    """
    place: list[Path] = []
    start = Path(text).expanduser()
    if text and roots.contains(start) and start.is_dir():
        place.append(start)
    with dialog_box() as dialog:
        ui.label(_HINT).classes("sl-quiet")
        title = ui.label().classes("sl-title sl-pre")
        shelf = ui.list().props("dense separator").classes("sl-list")
        with ui.row().classes("w-full justify-end"):
            ui.button("Cancel", on_click=dialog.close).props("no-caps flat")
            use = ui.button("Use this folder").props("no-caps unelevated")

    def enter(folder: Path | None) -> None:
        place[:] = [folder] if folder is not None else []
        fill()

    def fill() -> None:
        here = place[0] if place else None
        title.set_text(str(here) if here else "")
        use.set_enabled(here is not None)
        shelf.clear()
        with shelf:
            if here is not None:
                up = here.parent if roots.contains(here.parent) else None
                ui.item("..", on_click=lambda: enter(up))
            folders = roots.children(here) if here else list(roots.folders)
            for folder in folders:
                if here is None and not folder.is_dir():
                    continue
                name = folder.name if here else str(folder)
                ui.item(name, on_click=lambda folder=folder: enter(folder))

    def accept() -> None:
        dialog.close()
        take(place[0])

    use.on_click(accept)
    fill()

"""Dialog in the browser that chooses two checkpoints, to extract a LoRA."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from nicegui import ui

from .message_box import Message, dialog_box

__all__ = ["open_extract"]

_HINT = (
    "A LoRA is created from the difference between two checkpoints below a folder that "
    "the server was started with (--models FOLDER)."
)


def open_extract(
    checkpoints: Mapping[str, str], extract: Callable[[Path, Path], None]
) -> None:
    """Show the dialog.

    Args:
        checkpoints: names of checkpoints by path.
        extract: function that is called with the checkpoint before the training and
            the one after it.
    """
    with dialog_box() as dialog:
        ui.label("Extract a LoRA").classes("sl-title")
        ui.label(_HINT).classes("sl-quiet")
        chosen = []
        for title in ("Checkpoint before the training", "Checkpoint after it"):
            box = ui.select(dict(checkpoints), label=title, with_input=True)
            box.props("outlined dense options-dense").classes("w-full")
            chosen.append(box)
        note = Message()
        if not checkpoints:
            note.say("There are no checkpoints in these folders.", "remark")
        with ui.row().classes("w-full justify-end"):
            ui.button("Cancel", on_click=dialog.close).props("no-caps flat")
            start = ui.button("Extract").props("no-caps unelevated")

    def accept() -> None:
        paths = [str(box.value or "") for box in chosen]
        if any(path not in checkpoints for path in paths):
            note.say("Choose both checkpoints.", "error")
            return
        dialog.close()
        extract(Path(paths[0]), Path(paths[1]))

    start.on_click(accept)

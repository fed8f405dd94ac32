"""Dialog in the browser that writes captions with a model, on the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nicegui import background_tasks, ui

from ...._exceptions import StiefelLoraError
from ...controllers.auto_captions import (
    EXAMPLE,
    CaptionRequest,
    WrittenCaptions,
    missing_tagger,
)
from ...controllers.bulk_edit import EditableCaptions
from ..caption_process import usable_model
from .message_box import Message, complain, dialog_box

if TYPE_CHECKING:
    from ..context import WebContext

__all__ = ["open_auto_captions"]

_SECONDS = 0.5
_HINT = (
    "A tagger or a captioning model on the server: a folder below those of --models, "
    f"or a name such as {EXAMPLE}."
)


def open_auto_captions(
    context: WebContext, captions: EditableCaptions, changed: Callable[[str], None]
) -> None:
    """Show the dialog.

    Args:
        context: process and folders of the server.
        captions: captions of the folder.
        changed: function that is called with a message when captions were written.
    """
    with dialog_box() as dialog:
        _AutoCaptionBox(context, captions, changed, dialog)


class _AutoCaptionBox:
    def __init__(
        self,
        context: WebContext,
        captions: EditableCaptions,
        changed: Callable[[str], None],
        dialog: ui.dialog,
    ) -> None:
        self._context, self._captions, self._changed = context, captions, changed
        self._revision = -1
        ui.label(f"Write captions: {captions.folder.name}").classes("sl-title")
        ui.label(_HINT).classes("sl-quiet")
        model = context.memory.captioner
        self.model = ui.input("Model", value=model, on_change=self._allow)
        with ui.row(wrap=False).classes("w-full"):
            self.threshold = _probability("Tag threshold", 0.35)
            self.character = _probability("Character threshold", 0.85)
        self.exclude = ui.input("Exclude tags", placeholder="separated by commas")
        for line in (self.model, self.exclude):
            line.props("outlined dense stack-label").classes("w-full")
        self.overwrite = ui.checkbox("Replace existing captions")
        self.download = ui.checkbox(
            "Download the model from the Hugging Face Hub if it is not on the server"
        )
        self.note = Message()
        self.note.say(missing_tagger(), "remark")
        self.bar = ui.linear_progress(0, show_value=False).props("instant-feedback")
        self.output = ui.label().classes("sl-pre sl-list sl-quiet")
        with ui.row().classes("w-full justify-end"):
            ui.button("Close", on_click=dialog.close).props("no-caps flat")
            self.stop = ui.button("Stop", on_click=context.captioning.stop)
            self.stop.props("no-caps outline")
            self.start = ui.button("Start", on_click=self._start)
            self.start.props("no-caps unelevated")
        self._look()
        ui.timer(_SECONDS, self._look)

    def _request(self) -> CaptionRequest:
        captions = self._captions
        text = str(self.model.value or "").strip()
        return CaptionRequest(
            folder=captions.folder,
            model=usable_model(text, self._context.models),
            include_subdirectories=captions.deep,
            overwrite=bool(self.overwrite.value),
            download=bool(self.download.value),
            threshold=float(self.threshold.value or 0.35),
            character_threshold=float(self.character.value or 0.85),
            exclude=str(self.exclude.value or "").strip(),
            extension=captions.extension,
        )

    def _start(self) -> None:
        memory = self._context.memory
        memory.captioner = str(self.model.value or "").strip()
        self._context.remember()
        try:
            request = self._request()
        except StiefelLoraError as error:
            self.note.say(str(error), "error")
            return
        # It continues when the page is closed.
        background_tasks.create(self._run(request))

    async def _run(self, request: CaptionRequest) -> None:
        captions = self._captions
        try:
            text = await self._context.captioning.run(
                request, lambda: WrittenCaptions(captions)
            )
        except (StiefelLoraError, OSError) as error:
            text = ""
            if not self.model.client.is_deleted:
                with self.model.client:
                    complain(str(error))
        if not self.model.client.is_deleted:
            with self.model.client:
                self._changed(text)

    def _look(self) -> None:
        """Show the process, also one that another browser has started."""
        process = self._context.captioning
        if process.revision == self._revision:
            return
        self._revision = process.revision
        if process.folder == self._captions.folder:
            self.note.say(process.note, "error" if process.failed else "remark")
            self.output.set_text("\n".join(process.lines))
        elif process.is_running:
            self.note.say(f"Captions of {process.folder} are being written.", "remark")
        number, count = process.progress or (0, 1)
        self.bar.set_value(round(number / max(1, count), 3))
        self.bar.set_visibility(process.is_running)
        self._allow()

    def _allow(self) -> None:
        running = self._context.captioning.is_running
        named = bool(str(self.model.value or "").strip())
        self.start.set_enabled(named and not running)
        self.stop.set_enabled(running)


def _probability(label: str, value: float) -> ui.number:
    box = ui.number(label, value=value, min=0.01, max=1.0, step=0.05)
    box.props("outlined dense stack-label").classes("sl-half")
    return box

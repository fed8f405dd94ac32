"""Editor of the caption of one image in the browser, with the image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nicegui import ui

from ...._exceptions import OutputError
from ....config.caption_extension import TEXT
from ...controllers.caption_state import NO_CAPTION, CaptionState
from .message_box import Message

__all__ = ["CaptionBox"]

# Milliseconds after the last keystroke before a caption is saved.
_SAVE_MS = 800


class CaptionBox:
    """Editor that saves a caption after the last keystroke.

    A caption file that another program or browser changed in the meantime is never
    replaced without a question.

    Args:
        saved: function that is called with the image and the saved caption.
    """

    def __init__(self, saved: Callable[[Path, str], None]) -> None:
        self._saved = saved
        self._state: CaptionState | None = None
        self._drawing = self._locked = False
        with ui.element("div").classes("sl-caption-box"):
            self.preview = ui.image().props("fit=contain no-spinner")
            self.preview.classes("sl-preview")
            with ui.element("div").classes("sl-editor"):
                self.name = ui.label().classes("sl-quiet sl-line")
                self.text = ui.textarea(placeholder="Caption", on_change=self._typed)
                self.text.props(f"outlined dense rows=4 debounce={_SAVE_MS}")
                self.text.props["aria-label"] = "Caption"
                self.text.classes("w-full")
                self.note = Message()
                with ui.row().classes("gap-2") as self._answers:
                    keep = ui.button("Save my text", on_click=self._keep)
                    take = ui.button("Use the file", on_click=self._take)
                    for button in (keep, take):
                        button.props("outline no-caps dense padding='2px 8px'")
        self.show_image(None)

    @property
    def path(self) -> Path | None:
        """Image that is shown."""
        return self._state.image if self._state else None

    def show_image(
        self,
        path: Path | None,
        caption: str = "",
        *,
        url: str | None = None,
        locked: str = "",
        extension: str = TEXT,
    ) -> None:
        """Show an image and its caption file.

        Args:
            path: the image, or None to show nothing.
            caption: caption that is used if there is no caption file.
            url: address of the image.
            locked: reason why the caption cannot be edited, or "".
            extension: extension of the caption file.
        """
        self._state = CaptionState(path, extension) if path is not None else None
        self._answers.set_visibility(False)
        self.name.set_text(path.name if path else "")
        self.preview.set_source(url or "")
        self.preview.set_visibility(url is not None)
        if self._state is None:
            self._show_text("", enabled=False)
            self.note.say("", "quiet")
            return
        self._locked = bool(locked)
        self._show_caption(self._state, caption, locked)

    def look_again(self, caption: str) -> None:
        """Show a caption file that was changed elsewhere."""
        if self._state is not None and not self._locked and self._state.is_foreign:
            self._show_caption(self._state, caption, "")

    def _show_caption(self, state: CaptionState, caption: str, locked: str) -> None:
        text = state.read(caption)
        self._show_text(text, enabled=not state.problem and not locked)
        missing = "" if text else NO_CAPTION
        tone = "error" if state.problem else "quiet"
        self.note.say(state.problem or locked or missing, tone)

    def _show_text(self, text: str, *, enabled: bool) -> None:
        self._drawing = True
        try:
            self.text.value = text
        finally:
            self._drawing = False
        self.text.set_enabled(enabled)

    def _typed(self) -> None:
        if self._drawing or self._state is None:
            return
        if self._state.is_foreign:
            self._answers.set_visibility(True)
            self.note.say(self._state.question, "remark")
        else:
            self._write(self._state)

    def _keep(self) -> None:
        if self._state is not None:
            self._write(self._state)

    def _take(self) -> None:
        if self._state is not None:
            self._answers.set_visibility(False)
            self._show_caption(self._state, "", "")

    def _write(self, state: CaptionState) -> None:
        text = str(self.text.value or "")
        try:
            state.write(text)
        except OutputError as error:
            self.note.say(str(error), "error")
            return
        self._answers.set_visibility(False)
        self.note.say(state.confirmation, "quiet")
        self._saved(state.image, text.strip())

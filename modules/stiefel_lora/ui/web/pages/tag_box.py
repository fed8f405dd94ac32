"""Tags of a folder in the browser, and the number of images of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from nicegui import ui

from ....data.caption_edits import Edit, removed_tag, renamed_tag, tag_counts
from ....data.caption_files import Change, changes_by
from ...controllers.bulk_edit import EditableCaptions
from .message_box import dialog_box

__all__ = ["TagBox"]

# Maximum number of tags in the table. More do not help, and sending them takes time.
_MOST = 500


class TagBox:
    """Table of tags, with buttons to show their images, and to rename or remove them.

    Args:
        show: function that is called with a tag whose images are to be shown.
        editable: function that returns the captions that can be edited.
        write: function that is called with changes of captions and their description.
    """

    def __init__(
        self,
        show: Callable[[str], None],
        editable: Callable[[], EditableCaptions | None],
        write: Callable[[Sequence[Change], str], Awaitable[None]],
    ) -> None:
        self._editable, self._write = editable, write
        self._locked = False
        self._shown: dict[str, int] = {}
        columns = [
            {"name": "Tag", "label": "Tag", "field": "Tag", "align": "left"},
            {"name": "Images", "label": "Images", "field": "Images"},
        ]
        with ui.row().classes("w-full gap-2 q-mt-sm items-center"):
            self.note = ui.label().classes("sl-quiet")
            ui.space()
            self.show = ui.button("Show images", on_click=lambda: show(self.tag))
            self.rename = ui.button("Rename…", on_click=self._ask)
            self.remove = ui.button("Remove", on_click=self._remove)
            for button in (self.show, self.rename, self.remove):
                button.props("outline no-caps dense padding='2px 8px'")
        self.table = ui.table(
            columns=columns,
            rows=[],
            row_key="Tag",
            selection="single",
            pagination=15,
            on_select=lambda _: self._allow(),
        )
        self.table.props("dense flat").classes("w-full")
        self._allow()

    @property
    def tag(self) -> str:
        """Selected tag, or ""."""
        return str(self.table.selected[0]["Tag"]) if self.table.selected else ""

    def show_captions(
        self, captions: Iterable[str], delimiter: str, locked: bool
    ) -> None:
        """Show the tags of captions.

        Args:
            captions: the captions.
            delimiter: separator of tags.
            locked: whether captions cannot be edited.
        """
        self._locked = locked
        counts = tag_counts(list(captions), delimiter)
        if counts == self._shown:
            return
        self._shown = counts
        shown = list(counts.items())[:_MOST]
        self.table.rows = [{"Tag": tag, "Images": count} for tag, count in shown]
        self.table.selected = []
        more = f", the {_MOST} most frequent are shown" if len(counts) > _MOST else ""
        number = "1 tag" if len(counts) == 1 else f"{len(counts)} tags"
        self.note.set_text(f"{number}{more}, separated by {delimiter!r}.")
        self._allow()

    def _allow(self) -> None:
        self.show.set_enabled(bool(self.tag))
        for button in (self.rename, self.remove):
            button.set_enabled(bool(self.tag) and not self._locked)

    def _ask(self) -> None:
        tag = self.tag

        async def rename() -> None:
            new = str(name.value or "").strip()
            dialog.close()
            if new and new != tag:
                await self._change(
                    lambda delimiter: renamed_tag(tag, new, delimiter),
                    f"Rename the tag {tag!r} to {new!r}",
                )

        with dialog_box() as dialog:
            name = ui.input("New name", value=tag).props("outlined dense autofocus")
            with ui.row().classes("w-full justify-end"):
                ui.button("Cancel", on_click=dialog.close).props("no-caps flat")
                ui.button("OK", on_click=rename).props("no-caps unelevated")

    async def _remove(self) -> None:
        tag = self.tag
        await self._change(
            lambda delimiter: removed_tag(tag, delimiter), f"Remove the tag {tag!r}"
        )

    async def _change(self, make: Callable[[str], Edit], title: str) -> None:
        captions = self._editable()
        if captions is not None:
            edit = make(captions.delimiter)
            changes = changes_by(edit, captions.all, captions.extension)
            await self._write(changes, title)

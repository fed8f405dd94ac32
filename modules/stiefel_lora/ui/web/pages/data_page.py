"""Data tab in the browser: settings of the data, thumbnails, captions, problems."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nicegui import background_tasks, run, ui

from ....config import Concept, TrainConfig
from ....data.caption_files import Change
from ...controllers.bulk_edit import EditableCaptions
from ...controllers.caption_journal import (
    edited_captions,
    title_of_last_edit,
    undo_last_edit,
)
from ...controllers.concept_list import set_enabled
from ...controllers.findings import Findings
from ...controllers.image_captions import Shelf, open_shelf
from ...controllers.image_list import (
    ALL,
    FILTERS,
    NOTHING,
    READING,
    count_of_images,
    passes,
)
from ...controllers.survey import Problem, Survey, by_path
from .bulk_edit_box import open_bulk_edit
from .caption_box import CaptionBox
from .image_survey import survey_of_server
from .message_box import Message, attempt_in_thread
from .settings_tab import SettingsTab
from .survey_box import SurveyBox
from .tag_box import TagBox
from .thumbnails_view import Thumbnail, ThumbnailsView
from .upload_dialog import open_upload

if TYPE_CHECKING:
    from .browser_session import BrowserSession

__all__ = ["DataPage"]

# Images of a page. All of them at once would be slow on a phone.
_PAGE = 60
# Seconds between checks for changes on disk, while the tab is shown.
_LOOK_SECONDS = 8.0
_SIDE, _BIG = 160, 512
_OUTSIDE = (
    "Images of this folder are not shown, because it is not an image folder of the "
    "server. Start the server with --data and this folder to show them."
)


class DataPage:
    """Settings of the data, and the images of a folder.

    Args:
        session: state of the page.
    """

    def __init__(self, session: BrowserSession) -> None:
        self.session = session
        self._config: TrainConfig | None = None
        self._concepts: list[Concept] = []
        self._shelf = Shelf(message=NOTHING)
        self._marks: dict[Path, Problem] = {}
        self._shown: list[Path] = []
        self._drawing = False
        with ui.element("div").classes("sl-data"):
            with ui.element("div"):
                self.settings = SettingsTab(session, "Data")
            with ui.element("div").classes("sl-section"):
                self._build_folder()
                self._build_images()
        self.refresh(session.findings())
        ui.timer(_LOOK_SECONDS, self._look_at_disk, immediate=False)

    def refresh(self, findings: Findings) -> None:
        """Show changed settings."""
        self.settings.refresh(findings)
        if findings.config is None:
            return
        self._config = findings.config
        found = [*findings.config.concepts, *findings.config.validation_concepts]
        if found != self._concepts:
            self._list_folders(found, len(findings.config.concepts))
        self._start_survey()

    # Folders -------------------------------------------------------------------------

    def _list_folders(self, concepts: list[Concept], training: int) -> None:
        chosen = self._concept()
        self._concepts = concepts
        names = {}
        for place, concept in enumerate(concepts):
            suffix = "" if place < training else "  (validation)"
            suffix += "" if concept.enabled else "  (off)"
            names[place] = concept.path.name + suffix
        paths = [concept.path for concept in concepts]
        known = chosen is not None and chosen.path in paths
        place = paths.index(chosen.path) if known and chosen else 0
        self._draw_folders(names, place if concepts else None)
        self._open()

    def _draw_folders(self, names: dict[int, str], place: int | None) -> None:
        self._drawing = True
        try:
            self.folders.set_options(names, value=place)
        finally:
            self._drawing = False

    def _concept(self) -> Concept | None:
        place = self.folders.value
        known = isinstance(place, int) and place < len(self._concepts)
        return self._concepts[place] if known else None

    def _folder_chosen(self) -> None:
        if not self._drawing:
            self._open()

    def _open(self) -> None:
        concept = self._concept()
        self.used.set_enabled(concept is not None)
        self._drawing = True
        self.used.value = concept is not None and concept.enabled
        self._drawing = False
        self._shelf = Shelf(message=READING if concept else NOTHING)
        self.editor.show_image(None)
        self._list_images()
        if concept is not None:
            self._read(concept)

    def _read(self, concept: Concept) -> None:
        if not self._is_served(concept):
            # Its captions are not shown either.
            self._take(Shelf())
            return

        async def read() -> None:
            # Thousands of files take seconds.
            shelf = await run.io_bound(open_shelf, concept)
            if shelf is not None and concept == self._concept():
                self._take(shelf)

        background_tasks.create(read(), context=self.session.client)

    def _take(self, shelf: Shelf) -> None:
        if shelf == self._shelf:
            return
        self._shelf = shelf
        self._list_images()
        path = self.editor.path
        if path is None and self._shown:
            self._show_image(self._shown[0])
        elif path is not None:
            self.editor.look_again(shelf.captions.get(path, ""))

    def _look_at_disk(self) -> None:
        concept = self._concept()
        if self.session.tab == "Data" and concept is not None:
            self._read(concept)

    def _enable(self, on: bool) -> None:
        place = self.folders.value
        if self._drawing or self._config is None or not isinstance(place, int):
            return
        count = len(self._config.concepts)
        key = "concepts" if place < count else "validation_concepts"
        place = place if place < count else place - count
        document = self.session.context.document
        self.session.change(lambda: set_enabled(document, key, place, on))

    def _uploaded(self, folder: Path) -> None:
        for place, concept in enumerate(self._concepts):
            if concept.path == folder:
                self.folders.value = place
                self._read(concept)
        self._start_survey(again=True)

    # Survey --------------------------------------------------------------------------

    def _start_survey(self, *, again: bool = False) -> None:
        config = self._config
        if config is None:
            return
        survey = survey_of_server(self.session.context)

        async def look() -> None:
            self._mark(await survey.look(config, again=again))

        background_tasks.create(look(), context=self.session.client)

    def _mark(self, found: Survey) -> None:
        if self.session.client.is_deleted:
            return
        self.survey.show_survey(found)
        count = len(found.problems)
        title = f"Buckets and problems ({count})" if count else "Buckets"
        if self.survey_tab.props["label"] != title:
            self.survey_tab.props["label"] = title
        marks = by_path(found.problems)
        if marks != self._marks:
            self._marks = marks
            self._list_images()

    # Images --------------------------------------------------------------------------

    def _list_images(self) -> None:
        """Show the images that pass the filter, and their number."""
        shelf, kind, words = self._shelf, str(self.filter.value), self.search.value
        self._shown = [
            path
            for path, caption in shelf.captions.items()
            if passes(path, caption, self._marks.get(path), kind, str(words or ""))
        ]
        pages = max(1, -(-len(self._shown) // _PAGE))
        self.pages.props["max"] = pages
        self.pages.set_visibility(pages > 1)
        self.pages.value = min(self.pages.value or 1, pages)
        self._show_page()
        concept = self._concept()
        outside = concept is not None and not self._is_served(concept)
        hint = _OUTSIDE if outside and not shelf.message else ""
        text = shelf.message or hint or count_of_images(shelf, len(self._shown))
        quiet = shelf.message in ("", NOTHING, READING)
        self.message.say(text, "quiet" if quiet else "error")
        self._allow()
        delimiter = concept.tag_delimiter if concept else ","
        self.tags.show_captions(shelf.captions.values(), delimiter, bool(shelf.locked))

    def _show_page(self) -> None:
        start = _PAGE * ((self.pages.value or 1) - 1)
        shown = self._shown[start : start + _PAGE]
        self.grid.show_images([self._thumbnail(path) for path in shown])

    def _thumbnail(self, path: Path) -> Thumbnail:
        problem = self._marks.get(path)
        return Thumbnail(
            str(path),
            path.name,
            self.session.context.images.url_of(path, _SIDE),
            problem.short if problem else "",
            problem is not None and problem.skipped,
            f"{path}\n{problem.message}" if problem else str(path),
        )

    def _chosen(self, key: str) -> None:
        path = Path(key)
        if path in self._shelf.captions:
            self._show_image(path)

    def _show_image(self, path: Path) -> None:
        concept = self._concept()
        if concept is None:
            return
        locked = self._shelf.locked or ("" if self._is_served(concept) else _OUTSIDE)
        self.grid.choose(str(path))
        self.editor.show_image(
            path,
            self._shelf.captions[path],
            url=self.session.context.images.url_of(path, _BIG),
            locked=locked,
            extension=concept.caption_extension,
        )

    def _is_served(self, concept: Concept) -> bool:
        return self.session.context.images.serves(concept)

    # Captions ------------------------------------------------------------------------

    def _saved(self, path: Path, caption: str) -> None:
        self._shelf.captions[path] = caption
        problem = self._marks.get(path)
        if problem is not None and not problem.skipped:
            self._marks = {key: self._marks[key] for key in self._marks if key != path}
        self._list_images()

    def _allow(self) -> None:
        concept, title = self._concept(), title_of_last_edit()
        served = concept is not None and self._is_served(concept)
        editable = bool(self._shelf.captions) and not self._shelf.locked and served
        self.edit.set_enabled(editable)
        self.undo.set_enabled(bool(title))
        self.undo.props["title"] = f"Undo: {title}" if title else "No edit to undo."

    def _editable(self) -> EditableCaptions | None:
        concept = self._concept()
        if concept is None:
            return None
        return EditableCaptions.of(self._shelf, concept, self._config, self._shown)

    def _open_edit(self) -> None:
        captions = self._editable()
        if captions is not None:
            open_bulk_edit(captions, self._write)

    async def _write(self, changes: Sequence[Change], title: str) -> None:
        self._edited(await attempt_in_thread(lambda: edited_captions(changes, title)))

    async def _undo(self) -> None:
        self._edited(await attempt_in_thread(undo_last_edit))

    def _edited(self, text: str | None) -> None:
        """Show captions that were edited together."""
        concept = self._concept()
        if text is None or concept is None:
            return
        ui.notify(text)
        self._read(concept)
        self._start_survey(again=True)

    def _show_tag(self, tag: str) -> None:
        self.filter.value = ALL
        self.search.value = tag
        self.below.value = "images"

    # Elements ------------------------------------------------------------------------

    def _build_folder(self) -> None:
        with ui.row().classes("w-full gap-2 items-center"):
            self.folders = ui.select({}, on_change=self._folder_chosen)
            self.folders.props("outlined dense options-dense").classes("sl-runs")
            self.folders.props["aria-label"] = "Image folder"
            self.used = ui.checkbox(
                "Use this folder", on_change=lambda e: self._enable(bool(e.value))
            )
            self.used.props["title"] = "If disabled, training skips this folder."
        with ui.row().classes("w-full gap-2 items-center"):
            upload = _tool("Upload…", "Upload images, captions or a zip file")
            upload.on_click(lambda: open_upload(self.session, self._uploaded))
            self.edit = _tool(
                "Edit captions…",
                "Add a trigger word or text, or find and replace, in many captions.",
            )
            self.edit.on_click(self._open_edit)
            self.undo = _tool("Undo edit", "No edit to undo.")
            self.undo.on_click(self._undo)
        self.message = Message()

    def _build_images(self) -> None:
        with ui.tabs().props("dense no-caps align=left") as self.below:
            ui.tab("images", label="Images and captions")
            ui.tab("tags", label="Tags")
            self.survey_tab = ui.tab("survey", label="Buckets")
        panels = ui.tab_panels(self.below, value="images", animated=False)
        with panels.classes("w-full"):
            with ui.tab_panel("images").classes("p-0 gap-1"):
                self._build_list()
            with ui.tab_panel("tags").classes("p-0 gap-1"):
                self.tags = TagBox(self._show_tag, self._editable, self._write)
            with ui.tab_panel("survey").classes("p-0 gap-1"):
                self.survey = SurveyBox()

    def _build_list(self) -> None:
        with ui.row(wrap=False).classes("w-full gap-2 q-mt-sm"):
            filters = list(FILTERS)
            self.filter = ui.select(
                filters, value=filters[0], on_change=self._list_images
            )
            self.filter.props("outlined dense options-dense").classes("sl-unit")
            self.filter.props["aria-label"] = "Images to show"
            self.search = ui.input(
                placeholder="Search names and captions", on_change=self._list_images
            )
            self.search.props("outlined dense clearable debounce=250")
            self.search.props["aria-label"] = "Search names and captions"
            self.search.classes("w-full")
        self.pages = ui.pagination(1, 1, on_change=self._show_page)
        self.pages.props("dense max-pages=6")
        self.grid = ThumbnailsView(self._chosen)
        self.editor = CaptionBox(self._saved)


def _tool(text: str, hint: str) -> ui.button:
    button = ui.button(text).props("outline no-caps dense padding='4px 10px'")
    button.props["title"] = hint
    return button

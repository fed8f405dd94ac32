"""Data tab in the browser: settings of the data, thumbnails, captions, problems."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nicegui import background_tasks, run, ui

from ....config import Concept, TrainConfig
from ...controllers.bulk_edit import EditableCaptions
from ...controllers.concept_list import set_enabled
from ...controllers.findings import Findings
from ...controllers.image_captions import Shelf, image_in_training, open_shelf
from ...controllers.image_list import (
    ALL,
    FILTERS,
    NOTHING,
    READING,
    count_of_images,
    passes,
)
from ...controllers.image_selection import ImageSelection
from ...controllers.survey import Problem, Survey, by_path
from ...controllers.training_preview import TrainedImage
from ..crops import crop_address
from .caption_box import CaptionBox
from .caption_buttons import CaptionButtons, tool_button
from .image_survey import survey_of_server
from .message_box import Message
from .settings_tab import SettingsTab
from .survey_box import SurveyBox
from .tag_box import TagBox
from .thumbnails_view import Thumbnail, ThumbnailsView
from .training_box import TrainingBox, TrainingQuestion
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
        self._aside: frozenset[Path] = frozenset()
        self._shown: list[Path] = []
        self._selection = ImageSelection()
        self._goal: Path | None = None
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
        self._show_training()

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
        self._selection = ImageSelection()
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
            self._chosen(str(self._shown[0]))
        elif path is not None:
            self.editor.look_again(shelf.captions.get(path, ""))
            self._show_training()
        if self._goal in shelf.captions:
            self._go_to(self._goal)

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
        if found.aside != self._aside:
            self._aside = found.aside
            self._show_training()
        marks = by_path(found.problems)
        if marks != self._marks:
            self._marks = marks
            self._list_images()

    def _crop_of(self, image: TrainedImage) -> str | None:
        """Return the URL of the crop of an image of the survey."""
        path, size = image.entry.image.path, image.entry.size
        place = self._place_of(path)
        if place is None or not self._is_served(self._concepts[place]):
            return None
        training = self._is_training(place, path)
        context = self.session.context
        return crop_address(context, place, path, _SIDE, training=training, size=size)

    def _place_of(self, path: Path) -> int | None:
        """Return the number of the folder that contains an image."""
        places = range(len(self._concepts))
        found = (p for p in places if path.is_relative_to(self._concepts[p].path))
        return next(found, None)

    def _is_training(self, place: int, path: Path) -> bool:
        count = len(self._config.concepts) if self._config else 0
        return place < count and path not in self._aside

    def _go_to(self, path: Path | None) -> None:
        """Show an image of the survey, once its folder has been read."""
        place = self._place_of(path) if path is not None else None
        self._goal = path
        if path is None or place is None:
            return
        if path not in self._shelf.captions:
            self.folders.value = place
            return
        self._goal = None
        if path not in self._shown:
            self.filter.value, self.search.value = ALL, ""
        self.below.value = "images"
        if path in self._shown:
            self.pages.value = self._shown.index(path) // _PAGE + 1
        self._chosen(str(path))

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
        self._mark_selected(self.editor.path)
        concept = self._concept()
        outside = concept is not None and not self._is_served(concept)
        hint = _OUTSIDE if outside and not shelf.message else ""
        count = len(self._selection.among(self._shown))
        text = count_of_images(shelf, len(self._shown), count)
        quiet = shelf.message in ("", NOTHING, READING)
        self.message.say(shelf.message or hint or text, "quiet" if quiet else "error")
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

    def _chosen(self, key: str, adds: bool = False, extends: bool = False) -> None:
        path = Path(key)
        if path not in self._shelf.captions:
            return
        self._selection.select(path, self._shown, adds=adds, extends=extends)
        self._show_image(path)
        self._list_images()

    def _show_image(self, path: Path) -> None:
        concept = self._concept()
        if concept is None:
            return
        locked = self._shelf.locked or ("" if self._is_served(concept) else _OUTSIDE)
        self.editor.show_image(
            path,
            self._shelf.captions[path],
            url=self.session.context.images.url_of(path, _BIG),
            locked=locked,
            extension=concept.caption_extension,
        )
        self._mark_selected(path)
        self._show_training()

    def _mark_selected(self, path: Path | None) -> None:
        selected = self._selection.among(self._shown)
        marked = [str(each) for each in selected] if len(selected) > 1 else []
        self.grid.choose(str(path) if path else "", marked)

    def _show_training(self) -> None:
        """Show the image as it is used in training, if this is visible."""
        if self.detail.value == "training":
            question = self._training_question()
            work = self.training.show(question)
            background_tasks.create(work, context=self.session.client)

    def _training_question(self) -> TrainingQuestion | None:
        concept, path, config = self._concept(), self.editor.path, self._config
        if concept is None or path is None or config is None:
            return None
        image, place = image_in_training(self._shelf, path), int(self.folders.value)
        if image is None or not self._is_served(concept):
            return None
        training = self._is_training(place, path)
        return TrainingQuestion(image, config, place, training)

    def _is_served(self, concept: Concept) -> bool:
        return self.session.context.images.serves(concept)

    # Captions ------------------------------------------------------------------------

    def _saved(self, path: Path, caption: str) -> None:
        self._shelf.captions[path] = caption
        problem = self._marks.get(path)
        if problem is not None and not problem.skipped:
            self._marks = {key: self._marks[key] for key in self._marks if key != path}
        self._list_images()
        self._show_training()

    def _allow(self) -> None:
        concept = self._concept()
        served = concept is not None and self._is_served(concept)
        editable = bool(self._shelf.captions) and not self._shelf.locked and served
        self.tools.allow(editable)

    def _editable(self) -> EditableCaptions | None:
        concept = self._concept()
        if concept is None or not self._is_served(concept):
            return None
        selected = self._selection.among(self._shown)
        return EditableCaptions.of(
            self._shelf, concept, self._config, self._shown, selected
        )

    def _edited(self, text: str) -> None:
        """Show captions that were edited together."""
        concept = self._concept()
        if concept is None:
            return
        if text:
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
            upload = tool_button("Upload…", "Upload images, captions or a zip file")
            upload.on_click(lambda: open_upload(self.session, self._uploaded))
            self.tools = CaptionButtons(
                self.session.context, self._editable, self._edited
            )
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
                self.tags = TagBox(self._show_tag, self._editable, self.tools.write)
            with ui.tab_panel("survey").classes("p-0 gap-1"):
                self.survey = SurveyBox(self._go_to, self._crop_of)

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
        self.grid = ThumbnailsView(self._chosen, multiple=True)
        with ui.tabs(on_change=self._show_training) as self.detail:
            ui.tab("caption", label="Caption")
            ui.tab("training", label="In training")
        self.detail.props("dense no-caps align=left")
        panels = ui.tab_panels(self.detail, value="caption", animated=False)
        with panels.props("keep-alive").classes("w-full"):
            with ui.tab_panel("caption").classes("p-0"):
                self.editor = CaptionBox(self._saved)
            with ui.tab_panel("training").classes("p-0"):
                self.training = TrainingBox(self.session.context)

"""Data tab: settings of the data, thumbnails, captions and problems."""

from __future__ import annotations

import functools
from pathlib import Path

from PySide6.QtCore import QModelIndex, Qt, QTimer, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QLineEdit,
    QListView,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from ...config import Concept, TrainConfig
from ...config.caption_extension import TEXT
from ..controllers.bulk_edit import EditableCaptions
from ..controllers.image_captions import (
    Shelf,
    image_in_training,
    open_shelf,
    places_of,
)
from ..controllers.image_list import (
    ALL,
    FILTERS,
    NOTHING,
    PROBLEMS,
    READING,
    count_of_images,
    passes,
)
from ..controllers.survey import Survey, by_path, survey_question
from .basics import Combo, Note, scrolled
from .caption_editor import CaptionEditor
from .caption_tools import CaptionTools
from .folder_watcher import FolderWatcher
from .image_loading import load_image
from .survey_page import SurveyPage
from .tabs import Tabs
from .tags_page import TagsPage
from .theme import ERROR, QUIET, REMARK
from .thumbnails import SIDE, ThumbnailModel, thumbnail_view
from .training_view import TrainingView
from .worker_thread import Background

__all__ = ["DataTab"]

# After changes on disk: reading the headers of all images takes longer than a list.
_SURVEY_MS = 1500
# Maximum height of the part below the list of images.
_DETAIL = 240


class DataTab(QSplitter):
    """Tab with the data settings on the left and the images of a folder on the right.

    ``enable_wanted`` emits the key and place of a concept, and whether to use it.
    ``folders_dropped`` emits folders to add.

    Args:
        settings: form of the data settings.
    """

    enable_wanted = Signal(str, int, bool)
    folders_dropped = Signal(list)

    def __init__(self, settings: QWidget) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self.setAcceptDrops(True)
        self.folders = Combo()
        self.folders.setAccessibleName("Image folder")
        self.folders.currentIndexChanged.connect(self._open_folder)
        self.used = QCheckBox("Use this folder")
        self.used.setToolTip("If disabled, training skips this folder.")
        self.used.clicked.connect(self._enable)
        self.filter = Combo()
        self.filter.addItems(FILTERS)
        self.filter.setAccessibleName("Images to show")
        self.filter.currentIndexChanged.connect(self._list_images)
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search names and captions")
        self.search.setAccessibleName("Search names and captions")
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(self._list_images)
        self.model = ThumbnailModel(self)
        self.list = thumbnail_view(self.model)
        self.list.setSelectionMode(QListView.SelectionMode.ExtendedSelection)
        self.list.selectionModel().currentChanged.connect(self._show_image)
        self.message = Note()
        self.editor = CaptionEditor()
        self.editor.saved.connect(self._saved)
        self.caption = self.editor.caption
        self.training = TrainingView()
        self.detail = Tabs()
        self.detail.setDocumentMode(True)
        self.below = Tabs()
        self.tools = CaptionTools(self._editable)
        self.tools.edited.connect(self._edited)
        self.tools.failed.connect(self.say)
        self.tags = TagsPage()
        self.tags.shown.connect(self._show_tag)
        self.tags.removed.connect(self.tools.remove_tag)
        self.tags.renamed.connect(self.tools.rename_tag)
        self.survey = SurveyPage()
        self.survey.surveyed.connect(self._mark)
        self.survey.chosen.connect(self._go_to)
        self._question: object = None
        self._config: TrainConfig | None = None
        self._concepts: list[Concept] = []
        self._shelf = Shelf()
        self._wanted: Path | None = None
        self._goal: Path | None = None
        self._rows_left: list[int] = []
        self._aside: frozenset[Path] = frozenset()
        self._watcher = FolderWatcher(self)
        self._watcher.changed.connect(self._refresh)
        self._reader = Background(self)
        self._reader.done.connect(self._refreshed)
        self._readings, self._message = 0, ""
        self._survey_timer = QTimer(self, singleShot=True, interval=_SURVEY_MS)
        self._survey_timer.timeout.connect(self._survey)
        self._arrange(settings)

    @property
    def _shown(self) -> Path | None:
        return self.editor.path

    def take_up(self, config: TrainConfig | None) -> None:
        """Show the image folders of the current settings.

        Args:
            config: validated settings for the survey. None if they are invalid.
        """
        if config is None:
            return
        self._config = config
        most = config.max_image_megapixels
        if most != self.editor.most_megapixels:
            self.editor.most_megapixels = most
            self.model.load = functools.partial(load_image, side=SIDE, most=most)
            self.model.forget_all()
        self._refresh_folders(config)
        self._show_training()
        question = survey_question(config)
        if question != self._question:
            self._question = question
            self._survey()

    def save_caption(self) -> None:
        """Save the caption if it was edited."""
        self.editor.save()

    def say(self, text: str) -> None:
        """Show a message above the images."""
        self.message.say(text, REMARK)

    def select_folder(self, path: Path) -> None:
        """Show a folder once it is in the settings."""
        self._wanted = path

    def finish(self) -> None:
        """Save unsaved changes and stop the threads."""
        self.editor.finish()
        self._survey_timer.stop()
        self._watcher.stop()
        self._reader.finish()
        self.model.wait()
        self.training.finish()
        self.survey.finish()

    # Folders -------------------------------------------------------------------------

    def _refresh_folders(self, config: TrainConfig) -> None:
        found = [*config.concepts, *config.validation_concepts]
        if found == self._concepts:
            return
        chosen = self._wanted and str(self._wanted)
        chosen, self._wanted = chosen or self.folders.currentData(), None
        self._concepts = found
        self.folders.blockSignals(True)
        self.folders.clear()
        for place, concept in enumerate(found):
            suffix = "" if place < len(config.concepts) else "  (validation)"
            suffix += "" if concept.enabled else "  (off)"
            self.folders.addItem(concept.path.name + suffix, str(concept.path))
            self.folders.setItemData(
                place, str(concept.path), Qt.ItemDataRole.ToolTipRole
            )
        self.folders.setCurrentIndex(max(0, self.folders.findData(chosen)))
        self.folders.blockSignals(False)
        self._open_folder()

    def _concept(self) -> Concept | None:
        place = self.folders.currentIndex()
        return self._concepts[place] if 0 <= place < len(self._concepts) else None

    def _open_folder(self) -> None:
        self.editor.save_anyway()
        concept = self._concept()
        self.used.setEnabled(concept is not None)
        self.used.setChecked(concept is not None and concept.enabled)
        self._shelf = Shelf(message=READING if concept else NOTHING)
        self.editor.show_image(None)
        self._list_images()
        if concept is None:
            self._watch([])
        else:
            self._read(concept)

    def _read(self, concept: Concept) -> None:
        """Read a folder in a thread, since thousands of files take seconds."""
        concepts = [*self._concepts]
        self._readings += 1

        def read() -> tuple[Shelf, list[Path]]:
            return open_shelf(concept), places_of(concepts)

        self._reader.start_instead((concept, self._readings), read)

    def _enable(self, on: bool) -> None:
        place = self.folders.currentIndex()
        if self._config is None or place < 0:
            return
        count = len(self._config.concepts)
        key = "concepts" if place < count else "validation_concepts"
        self.enable_wanted.emit(key, place if place < count else place - count, on)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept files and folders."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Add the dropped folders."""
        urls = event.mimeData().urls()
        paths = [Path(url.toLocalFile()) for url in urls if url.isLocalFile()]
        if paths:
            event.acceptProposedAction()
            self.folders_dropped.emit(paths)

    # Changes on disk -----------------------------------------------------------------

    def _watch(self, places: list[Path]) -> None:
        images = list(self._shelf.captions)
        concept = self._concept()
        extension = concept.caption_extension if concept else TEXT
        texts = [image.with_suffix(extension) for image in images]
        # The files that are edited most come first: the number of watches is limited.
        self._watcher.watch(places, [*texts, *images])

    def _refresh(self) -> None:
        concept = self._concept()
        if concept is not None:
            self._read(concept)
        self._survey_timer.start()

    def _refreshed(
        self, key: tuple[Concept, int], found: tuple[Shelf, list[Path]]
    ) -> None:
        # One that began before the last edit would show captions that were replaced.
        if key != (self._concept(), self._readings):
            return
        shelf, places = found
        before, self._shelf = self._shelf, shelf
        changed = [
            path
            for path, stamp in shelf.stamps.items()
            if before.stamps.get(path, stamp) != stamp
        ]
        for path in changed:
            self.model.forget(path)
        if self._shown in changed:
            self.editor.load_preview()
        self._list_images()
        if self._shown is not None:
            self.editor.look_again(shelf.captions.get(self._shown, ""))
            self._show_training()
        self._watch(places)
        self._seek()
        if self._message:
            self.say(self._message)
            self._message = ""

    def _survey(self) -> None:
        if self._config is not None:
            self.survey.look(self._config)

    # Images --------------------------------------------------------------------------

    def _list_images(self) -> None:
        """Show the images that pass the filter, and keep the selection."""
        shelf = self._shelf
        is_error = shelf.message not in ("", NOTHING, READING)
        tone = ERROR if is_error else QUIET
        paths = [path for path in shelf.captions if self._passes(path)]
        if paths != self.model.paths:
            position = self.list.verticalScrollBar().value()
            self.list.selectionModel().blockSignals(True)
            self.model.show_paths(paths)
            self.list.selectionModel().blockSignals(False)
            self._select(self._shown)
            self.list.verticalScrollBar().setValue(position)
        elif self._shown is None:
            self._select(None)
        self.message.say(shelf.message or count_of_images(shelf, len(paths)), tone)
        self.tools.allow(bool(shelf.captions) and not shelf.locked)
        self._show_tags()

    def _show_tags(self) -> None:
        concept, shelf = self._concept(), self._shelf
        delimiter = concept.tag_delimiter if concept else ","
        self.tags.show_captions(shelf.captions.values(), delimiter, bool(shelf.locked))
        self.tags.setEnabled(True)

    def _select(self, path: Path | None) -> None:
        """Select an image, or the first one if it is not shown."""
        row = None if path is None else self.model.row_of(path)
        if row is None and not self.model.paths:
            self.editor.save_anyway()
            self.editor.show_image(None)
            return
        self.list.setCurrentIndex(self.model.index(row or 0))

    def _passes(self, path: Path) -> bool:
        kind, words = self.filter.currentText(), self.search.text()
        problem = self.model.problem_of(path)
        return passes(path, self._shelf.captions[path], problem, kind, words)

    def _show_image(self, index: QModelIndex, _before: QModelIndex) -> None:
        path = self.model.paths[index.row()] if index.isValid() else None
        if path is not None and path == self._shown:
            return
        self.editor.save_anyway()
        if path is None:
            self.editor.show_image(None)
        else:
            caption = self._shelf.captions[path]
            concept = self._concept()
            self.editor.extension = concept.caption_extension if concept else TEXT
            self.editor.show_image(path, caption, self._shelf.locked)
        self._show_training()

    def _show_training(self) -> None:
        """Show the image and its caption as they are used in training."""
        image = image_in_training(self._shelf, self._shown) if self._shown else None
        place, config = self.folders.currentIndex(), self._config
        trained = config is not None and place < len(config.concepts)
        if image is not None and image.path in self._aside:
            trained = False
        self.training.show_image(image, config, trained)

    def _editable(self) -> EditableCaptions:
        """Return the captions for an edit, with the text that is being typed."""
        self.editor.save_anyway()
        concept = self._concept()
        assert concept is not None
        paths = self.model.paths
        rows = sorted(index.row() for index in self.list.selectedIndexes())
        selected = [paths[row] for row in rows]
        return EditableCaptions.of(self._shelf, concept, self._config, paths, selected)

    def _edited(self, text: str) -> None:
        """Show captions that were edited together."""
        # The next edit must not begin from captions that were replaced by this one.
        self.tools.allow(False)
        self.tags.setEnabled(False)
        self._refresh()
        # Now, and again after the count of images that replaces it.
        self._message = text
        self.say(text)

    def _show_tag(self, tag: str) -> None:
        self.filter.setCurrentText(ALL)
        self.search.setText(tag)
        self.below.setCurrentIndex(0)

    def _saved(self, path: Path) -> None:
        """Take over a saved caption without waiting for the notice of the system."""
        self._shelf.captions[path] = self.caption.toPlainText().strip()
        self._show_tags()
        self._show_training()
        problem = self.model.marks.get(path)
        if problem is not None and not problem.skipped:
            marks = dict(self.model.marks)
            del marks[path]
            self.model.mark(marks)

    def _mark(self, found: Survey) -> None:
        count = len(found.problems)
        title = f"Buckets and problems ({count})" if count else "Buckets"
        self.below.setTabText(self.below.indexOf(self.survey), title)
        self.model.mark(by_path(found.problems))
        if found.aside != self._aside:
            self._aside = found.aside
            self._show_training()
        if self.filter.currentText() == PROBLEMS:
            self._list_images()

    def _go_to(self, path: Path) -> None:
        """Show the image that has a problem, once its folder has been read."""
        self._goal = path
        self._rows_left = [
            row
            for row in range(self.folders.count())
            if row != self.folders.currentIndex()
            and path.is_relative_to(Path(self.folders.itemData(row)))
        ]
        self._seek()

    def _seek(self) -> None:
        path = self._goal
        if path is None or self._shelf.message == READING:
            return
        if path not in self._shelf.captions and self._rows_left:
            self.folders.setCurrentIndex(self._rows_left.pop(0))
            return
        self._goal = None
        if path not in self._shelf.captions:
            return
        if not self._passes(path):
            self.filter.setCurrentText(ALL)
            self.search.clear()
        self.below.setCurrentIndex(0)
        self._select(path)
        self.caption.setFocus()

    def _arrange(self, settings: QWidget) -> None:
        images = QWidget()
        column = QVBoxLayout(images)
        row = QHBoxLayout()
        row.addWidget(self.filter)
        row.addWidget(self.search, 1)
        column.addLayout(row)
        column.addWidget(self.list, 3)
        self.detail.addTab(self.editor, "Caption")
        self.detail.addTab(self.training, "In training")
        self.detail.setMaximumHeight(_DETAIL)
        column.addWidget(self.detail, 2)
        self.below.addTab(images, "Images and captions")
        self.below.addTab(self.tags, "Tags")
        self.below.addTab(self.survey, "Buckets")
        right = QWidget()
        column = QVBoxLayout(right)
        row = QHBoxLayout()
        row.addWidget(self.folders, 1)
        row.addWidget(self.used)
        column.addLayout(row)
        row = QHBoxLayout()
        row.addWidget(self.message, 1)
        row.addStretch()
        row.addWidget(self.tools)
        column.addLayout(row)
        column.addWidget(self.below, 1)
        self.addWidget(scrolled(settings))
        self.addWidget(right)
        self.setStretchFactor(0, 2)
        self.setStretchFactor(1, 3)
        self.setSizes([460, 720])

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import QItemSelectionModel, QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent

from helpers.runs import make_images
from helpers.tiny_tagger import make_tagger
from stiefel_lora.ui.controllers.training_preview import trained_image
from stiefel_lora.ui.views import data_tab
from stiefel_lora.ui.views.bulk_edit_dialog import BulkEditDialog
from stiefel_lora.ui.views.image_loading import scaled_image


@pytest.fixture
def open_data(open_window, qtbot):
    """Open the window with a folder in the Data tab."""

    def open_(*folders: Path, **concept):
        window = open_window()
        window.show_tab(window.data)
        entries = [{"path": str(folder), **concept} for folder in folders]
        window.document.set("resolution", 32)
        window.document.set("concepts", entries)
        window.examine()
        wait_for_folder(qtbot, window.data)
        return window

    return open_


def wait_for_folder(qtbot, data):
    """Wait until the folder has been read in a thread."""
    qtbot.waitUntil(lambda: data.message.text() != "Reading the folder…")


def names(data):
    return [path.name for path in data.model.paths]


def text_of(data, row, role=Qt.ItemDataRole.DisplayRole):
    return data.model.data(data.model.index(row), role)


def write(data, text):
    data.caption.selectAll()
    data.caption.insertPlainText(text)


def test_files_that_appear_change_and_vanish_are_followed(open_data, qtbot, tmp_path):
    folder = make_images(tmp_path / "p", count=3)
    data = open_data(folder).data
    data.list.setCurrentIndex(data.model.index(1))
    make_images(tmp_path / "q", count=6)
    (tmp_path / "q" / "05.png").rename(folder / "00a.png")
    qtbot.waitUntil(lambda: names(data) == ["00.png", "00a.png", "01.png", "02.png"])
    # The selection stays with its image.
    assert data._shown == folder / "01.png"
    assert data.list.currentIndex().row() == 2
    assert data.message.text() == "4 images, 1 without caption."
    (folder / "01.txt").write_text("a changed text")
    qtbot.waitUntil(lambda: data.caption.toPlainText() == "a changed text")
    (folder / "01.png").unlink()
    qtbot.waitUntil(lambda: names(data) == ["00.png", "00a.png", "02.png"])
    assert data._shown == folder / "00.png"


def test_a_changed_image_gets_a_new_thumbnail_and_preview(open_data, qtbot, tmp_path):
    folder = make_images(tmp_path / "p", count=2)
    data = open_data(folder).data
    path = folder / "00.png"
    qtbot.waitUntil(lambda: len(data.model._ready) == 2)
    Image.new("RGB", (32, 32), (255, 0, 0)).save(path)

    def middle():
        found = data.model._ready.get(path)
        return found and found.toImage().pixelColor(50, 50).getRgb()

    qtbot.waitUntil(lambda: middle() == (255, 0, 0, 255))

    def shown():
        return data.editor.preview.pixmap().toImage().pixelColor(90, 90).getRgb()

    qtbot.waitUntil(lambda: shown() == (255, 0, 0, 255))


def test_a_folder_that_is_created_later_is_shown(open_data, qtbot, tmp_path):
    data = open_data(tmp_path / "later").data
    assert "does not exist" in data.message.text()
    make_images(tmp_path / "later", count=2)
    qtbot.waitUntil(lambda: names(data) == ["00.png", "01.png"])
    # From then on, it is watched itself.
    (tmp_path / "later" / "01.png").unlink()
    qtbot.waitUntil(lambda: names(data) == ["00.png"])


def test_new_files_in_subfolders_are_noticed(open_data, qtbot, tmp_path):
    make_images(tmp_path / "p", count=1)
    make_images(tmp_path / "p" / "inner", count=1)
    data = open_data(tmp_path / "p", include_subdirectories=True).data
    assert names(data) == ["00.png", "00.png"]
    make_images(tmp_path / "p" / "inner", count=2)
    qtbot.waitUntil(lambda: len(names(data)) == 3)


def test_a_caption_of_another_program_is_not_replaced(open_data, qtbot, tmp_path):
    folder = make_images(tmp_path / "p", count=2)
    data = open_data(folder).data
    write(data, "mine")
    (folder / "00.txt").write_text("theirs")
    data.save_caption()
    assert (folder / "00.txt").read_text() == "theirs"
    assert data.editor.keep.isVisible()
    assert "Another program changed 00.txt" in data.editor.note.text()
    data.editor.take.click()
    assert data.caption.toPlainText() == "theirs"
    write(data, "mine")
    (folder / "00.txt").write_text("theirs again")
    qtbot.waitUntil(data.editor.keep.isVisible)
    data.editor.keep.click()
    assert (folder / "00.txt").read_text() == "mine\n"
    # Without an answer, neither text is lost.
    write(data, "mine too")
    (folder / "00.txt").write_text("third")
    data.list.setCurrentIndex(data.model.index(1))
    assert (folder / "00.txt").read_text() == "mine too\n"
    assert (folder / "00.txt.bak").read_text() == "third"
    assert data.caption.toPlainText() == "thing 1"


def test_problems_are_shown_at_the_image_with_their_reason(open_data, qtbot, tmp_path):
    folder = make_images(tmp_path / "p", count=4)
    (folder / "01.txt").unlink()
    (folder / "02.png").write_bytes(b"\x89PNG broken")
    (folder / "03.txt").write_bytes(b"\xff\xfe\xff")
    data = open_data(folder).data
    qtbot.waitUntil(lambda: "\n" in text_of(data, 1))
    assert [text_of(data, row) for row in range(4)] == [
        "00.png",
        "01.png\nno caption",
        "02.png\nskipped",
        "03.png\ncaption unreadable",
    ]
    tip = Qt.ItemDataRole.ToolTipRole
    assert "cannot identify image file" in text_of(data, 2, tip)
    assert "not UTF-8" in text_of(data, 3, tip)
    paint = Qt.ItemDataRole.ForegroundRole
    assert text_of(data, 1, paint) != text_of(data, 2, paint)
    data.filter.setCurrentText("With problems")
    assert names(data) == ["01.png", "02.png", "03.png"]
    data.filter.setCurrentText("Without caption")
    assert names(data) == ["01.png", "03.png"]
    data.filter.setCurrentText("All images")
    data.search.setText("THING 0")
    assert names(data) == ["00.png"]
    assert "and not UTF-8" in data.message.text()
    # A listed problem leads to its image, whatever is filtered.
    data._go_to(folder / "02.png")
    assert data._shown == folder / "02.png"
    qtbot.waitUntil(lambda: "cannot be read" in data.editor.preview.text())


def test_a_truncated_image_is_marked_though_its_header_is_sound(
    open_data, qtbot, tmp_path
):
    # So many that the last one is not visible, so that it has no thumbnail.
    folder = make_images(tmp_path / "p", count=80)
    path = folder / "cut.jpg"
    noise = Image.effect_noise((256, 256), 90).convert("RGB")
    noise.save(path)
    path.write_bytes(path.read_bytes()[:4000])
    path.with_suffix(".txt").write_text("cut")
    data = open_data(folder).data
    qtbot.waitUntil(lambda: text_of(data, 80) == "cut.jpg\nskipped")
    assert path not in data.model._reasons
    assert "truncated" in text_of(data, 80, Qt.ItemDataRole.ToolTipRole)
    assert "cannot be read and is skipped: cut.jpg" in data.survey.summary.text()
    assert "Decoding" not in data.survey.summary.text()
    data.filter.setCurrentText("With problems")
    assert names(data) == ["cut.jpg"]


def test_folders_are_read_outside_of_the_gui_thread(
    open_data, qtbot, tmp_path, monkeypatch
):
    threads = []

    def noted(function):
        def wrapper(*arguments):
            threads.append(threading.get_ident())
            return function(*arguments)

        return wrapper

    for name in ("open_shelf", "places_of"):
        monkeypatch.setattr(data_tab, name, noted(getattr(data_tab, name)))
    cats = make_images(tmp_path / "cats", count=1)
    dogs = make_images(tmp_path / "dogs", count=2)
    data = open_data(cats, dogs).data
    # A problem of another folder is shown once that folder has been read.
    data._go_to(dogs / "01.png")
    assert names(data) == []
    assert data.message.text() == "Reading the folder…"
    qtbot.waitUntil(lambda: data._shown == dogs / "01.png")
    assert len(threads) >= 4
    assert threading.get_ident() not in threads


def test_a_large_image_is_limited_by_the_setting_alone(open_data, qtbot, tmp_path):
    folder = make_images(tmp_path / "p", count=1)
    window = open_data(folder)
    data = window.data
    window.document.set("max_image_megapixels", 0.0005)
    window.examine()
    qtbot.waitUntil(lambda: "\n" in text_of(data, 0))
    qtbot.waitUntil(lambda: bool(data.model._reasons))
    assert "max_image_megapixels=0.0005" in text_of(
        data, 0, Qt.ItemDataRole.ToolTipRole
    )
    window.document.set("max_image_megapixels", 1)
    window.examine()
    qtbot.waitUntil(lambda: text_of(data, 0) == "00.png")
    assert not data.model._reasons


def test_a_folder_is_switched_off_and_on(open_data, qtbot, tmp_path):
    cats = make_images(tmp_path / "cats", count=1)
    dogs = make_images(tmp_path / "dogs", count=2)
    window = open_data(cats, dogs)
    data = window.data
    data.folders.setCurrentIndex(1)
    wait_for_folder(qtbot, data)
    assert data.used.isChecked()
    data.used.click()
    window.examine()
    entries = [{"path": str(cats)}, {"path": str(dogs), "enabled": False}]
    assert window.document.value("concepts") == entries
    assert data.folders.currentText() == "dogs  (off)"
    # The images are still shown.
    wait_for_folder(qtbot, data)
    assert names(data) == ["00.png", "01.png"]
    assert not data.used.isChecked()
    qtbot.waitUntil(lambda: "1 image, 1 per epoch" in data.survey.summary.text())
    window.document.undo()
    window.examine()
    assert data.used.isChecked()
    data.used.click()
    data.used.click()
    assert window.document.value("concepts") == [
        {"path": str(cats)},
        {"path": str(dogs)},
    ]


def drop(widget, *paths):
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    action, left = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
    none = Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(QPoint(5, 5), action, mime, left, none)
    widget.dragEnterEvent(enter)
    assert enter.isAccepted()
    widget.dropEvent(QDropEvent(QPointF(5, 5), action, mime, left, none))


def test_dropped_folders_are_added_and_shown(open_data, tmp_path):
    cats = make_images(tmp_path / "cats", count=1)
    dogs = make_images(tmp_path / "dogs 犬", count=2)
    window = open_data(cats)
    drop(window.data, dogs)
    assert window.document.value("concepts") == [
        {"path": str(cats)},
        {"path": str(dogs)},
    ]
    assert window.data.folders.currentText() == "dogs 犬"
    drop(window.data, cats, dogs / "00.png")
    assert len(window.document.value("concepts")) == 2
    assert window.data.message.text() == (
        "cats is already in the list. 00.png is not a folder."
    )
    window.document.undo()
    assert window.document.value("concepts") == [{"path": str(cats)}]


def test_a_folder_dropped_on_the_caption_does_not_become_its_text(open_data, tmp_path):
    data = open_data(make_images(tmp_path / "cats", count=1)).data
    mime = QMimeData()
    mime.setText("a cat")
    assert data.caption.canInsertFromMimeData(mime)
    mime.setUrls([QUrl.fromLocalFile(str(tmp_path))])
    assert not data.caption.canInsertFromMimeData(mime)


def test_a_dropped_folder_fills_an_empty_entry(open_window, tmp_path):
    dogs = make_images(tmp_path / "dogs", count=1)
    window = open_window()
    window.document.set("concepts", [{"path": ""}])
    drop(window.data, dogs)
    assert window.document.value("concepts") == [{"path": str(dogs)}]


def dialog_of(data):
    found = data.tools._ask()
    return BulkEditDialog(found.scopes, found.trigger, found.delimiter, data)


def texts(folder):
    return [path.read_text().strip() for path in sorted(folder.glob("*.txt"))]


def test_many_captions_are_edited_and_undone(open_data, tmp_path, qtbot):
    folder = make_images(tmp_path / "p", count=3)
    window = open_data(folder)
    data = window.data
    window.document.set("trigger_word", "ohwx")
    window.examine()
    write(data, "typed, ohwx")
    dialog = dialog_of(data)
    # What is being typed counts, and a caption that has the word is not changed.
    assert dialog.note.text() == "2 of 3 captions change."
    assert dialog.table.item(0, 2).text() == "ohwx, thing 1"
    data.tools.write(dialog.changes, dialog.title)
    assert texts(folder) == ["typed, ohwx", "ohwx, thing 1", "ohwx, thing 2"]
    assert data.message.text() == "2 captions were changed. Undo edit restores them."
    qtbot.waitUntil(data.tools.edit.isEnabled)
    assert data.message.text() == "2 captions were changed. Undo edit restores them."
    data.list.setCurrentIndex(data.model.index(1))
    assert data.caption.toPlainText() == "ohwx, thing 1"
    # The edit can be undone after the window was closed, too.
    window.close()
    data = open_data(folder).data
    assert data.tools.undo.toolTip() == "Undo: Add the trigger word: 'ohwx'"
    data.tools.undo.click()
    assert texts(folder) == ["typed, ohwx", "thing 1", "thing 2"]
    assert data.message.text() == "2 captions were restored."
    assert not data.tools.undo.isEnabled()


def test_the_dialog_edits_the_chosen_images_only(open_data, tmp_path):
    folder = make_images(tmp_path / "p", count=4)
    (folder / "03.txt").write_bytes(b"\xff\xfe\xff")
    data = open_data(folder).data
    data.search.setText("thing")
    for row in (1, 2):
        flag = QItemSelectionModel.SelectionFlag.Select
        data.list.selectionModel().select(data.model.index(row), flag)
    dialog = dialog_of(data)
    scopes = [dialog.scope.itemText(place) for place in range(dialog.scope.count())]
    # The caption that cannot be read is in none of them.
    assert scopes == ["All images of the folder (3)", "Selected images (3)"]
    data.list.setCurrentIndex(data.model.index(2))
    data.search.setText("thing 2")
    dialog = dialog_of(data)
    dialog.scope.setCurrentText("Images shown (1)")
    dialog.kind.setCurrentText("Find and replace")
    assert not dialog.apply.isEnabled()
    dialog.old.setText("THING")
    dialog.new.setText("cat")
    assert [change.after for change in dialog.changes] == ["cat 2"]
    assert dialog.apply.text() == "Change 1 caption"
    dialog.case.setChecked(True)
    assert not dialog.changes
    dialog.kind.setCurrentText("Add text at the end")
    dialog.text.setText("indoors")
    dialog.separator.setText(" | ")
    assert [change.after for change in dialog.changes] == ["thing 2 | indoors"]
    assert not dialog.form.isRowVisible(dialog.old)


def test_tags_are_counted_searched_renamed_and_removed(open_data, tmp_path, qtbot):
    folder = make_images(tmp_path / "p", count=3)
    for number, text in enumerate(("cat, red", "cat, blue", "dog, red, red")):
        (folder / f"0{number}.txt").write_text(text)
    data = open_data(folder).data
    page = data.tags
    data.below.setCurrentWidget(page)

    def rows():
        return [
            (page.table.item(row, 0).text(), page.table.item(row, 1).text())
            for row in range(page.table.rowCount())
        ]

    assert rows() == [("cat", "2"), ("red", "2"), ("blue", "1"), ("dog", "1")]
    assert not page.buttons["Remove"].isEnabled()
    page.search.setText("R")
    assert rows() == [("red", "2")]
    page.table.selectRow(0)
    page.buttons["Remove"].click()
    assert texts(folder) == ["cat", "cat, blue", "dog"]
    # The folder is read in a thread; until then, no edit begins from replaced captions.
    assert not page.isEnabled()
    assert not data.tools.edit.isEnabled()
    qtbot.waitUntil(page.isEnabled)
    assert data.tools.edit.isEnabled()
    page.search.clear()
    assert rows() == [("cat", "2"), ("blue", "1"), ("dog", "1")]
    page.renamed.emit("dog", "hound")
    qtbot.waitUntil(page.isEnabled)
    assert rows()[2] == ("hound", "1")
    page.table.selectRow(1)
    page.buttons["Show images"].click()
    assert names(data) == ["01.png"]


def test_captions_from_elsewhere_cannot_be_edited_together(open_data, tmp_path):
    folder = make_images(tmp_path / "p", count=2)
    data = open_data(folder, prompt_source="filename").data
    assert not data.tools.edit.isEnabled()
    data.below.setCurrentWidget(data.tags)
    data.tags.table.selectRow(0)
    assert data.tags.buttons["Show images"].isEnabled()
    assert not data.tags.buttons["Rename"].isEnabled()


def test_the_image_and_its_captions_are_shown_as_in_training(
    open_data, qtbot, tmp_path
):
    folder = make_images(tmp_path / "p", count=2)
    (folder / "00.txt").write_text("red, cat, hat")
    options = {"enable_tag_shuffling": True, "caption_dropout_rate": 0.4}
    window = open_data(folder, enable_random_flip=True, **options)
    data, view = window.data, window.data.training
    window.document.set("trigger_word", "ohwx")
    window.examine()
    data.detail.setCurrentWidget(view)
    image = data._shelf.images[folder / "00.png"]
    shown = trained_image(image, window.findings.config, training=True)

    def rows():
        table = view.table
        return [table.item(row, 1).text() for row in range(table.rowCount())]

    expected = [shown.caption(n) or "(empty: caption dropout)" for n in range(12)]
    assert rows() == expected
    assert "(empty: caption dropout)" in expected
    assert any(text.startswith("ohwx, ") for text in expected)
    pixels = [scaled_image(shown.crop(number), 180) for number in range(2)]
    assert pixels[0] != pixels[1]
    for number, wanted in enumerate(pixels):
        view.table.setCurrentCell(number, 1)
        assert ("flipped" in view.note.text()) is shown.augmentation(number).mirrored

        def is_shown(wanted=wanted):
            found = view.crop.pixmap().toImage()
            return found == wanted.convertToFormat(found.format())

        qtbot.waitUntil(is_shown)
    # Another caption is shown once saved.
    data.detail.setCurrentWidget(data.editor)
    write(data, "ohwx")
    data.save_caption()
    data.detail.setCurrentWidget(view)
    assert set(rows()) == {"ohwx", "(empty: caption dropout)"}
    window.document.set("validate_every", 5)
    window.document.set("validation_split", 0.5)
    window.examine()
    qtbot.waitUntil(lambda: bool(data._aside))
    (aside,) = data._aside
    data._select(aside)
    assert view.table.rowCount() == 1
    assert view.note.text().startswith("Validation image, not augmented. 32 x 32")


def test_the_crops_of_a_bucket_are_shown(open_data, qtbot, tmp_path):
    folder = make_images(tmp_path / "p", count=2)
    wide = Image.new("RGB", (64, 32), (255, 0, 0))
    wide.paste((0, 0, 255), (16, 0, 48, 32))
    wide.save(folder / "01.png")
    window = open_data(folder)
    window.document.set("aspect_ratio_bucketing", False)
    window.examine()
    page = window.data.survey
    window.data.below.setCurrentWidget(page)
    path = folder / "01.png"
    qtbot.waitUntil(lambda: path in page.crops._ready)
    assert [path.name for path in page.crops.paths] == ["00.png", "01.png"]
    # Red is cut off on both sides.
    found = page.crops._ready[path].toImage()
    assert found.pixelColor(1, 56).getRgb() == (0, 0, 255, 255)
    window.document.set("aspect_ratio_bucketing", True)
    window.document.set("bucket_step", 16)
    window.examine()
    qtbot.waitUntil(lambda: page.table.rowCount() == 2)
    assert page.table.item(1, 0).text() == "48 x 16"
    assert [path.name for path in page.crops.paths] == ["00.png"]
    page.table.setCurrentCell(1, 0)
    assert page.crops.paths == [path]
    qtbot.waitUntil(lambda: path in page.crops._ready)
    found = page.crops._ready[path].toImage()
    assert found.pixelColor(1, 56).getRgb() == (255, 0, 0, 255)
    page.crop_view.activated.emit(page.crops.index(0))
    assert window.data._shown == path


def test_captions_are_written_by_a_model_and_undone(open_data, qtbot, tmp_path):
    folder = make_images(tmp_path / "p", count=3)
    model = make_tagger(tmp_path / "model")
    for number in (0, 1):
        Image.new("RGB", (32, 32), (255, 0, 0)).save(folder / f"0{number}.png")
    (folder / "01.txt").unlink()
    (folder / "02.png").unlink()
    data = open_data(folder).data
    dialog = data.tools.captioner()
    assert not dialog.start.isEnabled()
    dialog.model.setText(str(model))
    dialog.exclude.setText("some_hero")
    with qtbot.waitSignal(dialog.changed, timeout=120_000):
        dialog.start.click()
        assert dialog.stop.isEnabled()
    assert dialog.output.toPlainText().splitlines()[0] == "1/1 01.png: red thing"
    assert dialog.note.text().startswith("1 caption was written. 1 existing caption")
    assert (folder / "00.txt").read_text() == "thing 0"
    assert (folder / "01.txt").read_text() == "red thing\n"
    # The tab shows the new caption without a notice of the system.
    qtbot.waitUntil(lambda: data.tools.edit.isEnabled())
    assert data._shelf.captions[folder / "01.png"] == "red thing"
    assert data.message.text().startswith("1 caption was written. Undo edit")
    dialog.overwrite.setChecked(True)
    with qtbot.waitSignal(dialog.changed, timeout=120_000):
        dialog.start.click()
    dialog.close()
    assert texts(folder)[:2] == ["red thing", "red thing"]
    data.tools.undo.click()
    assert (folder / "00.txt").read_text() == "thing 0"
    assert (folder / "01.txt").read_text() == "red thing\n"


def test_captions_of_another_extension_are_edited(open_data, tmp_path):
    folder = make_images(tmp_path / "p", count=2)
    (folder / "00.caption").write_text("own 0")
    (folder / "00.txt").write_text("not this one")
    data = open_data(folder, caption_extension=".caption").data
    assert data.caption.toPlainText() == "own 0"
    write(data, "changed")
    data.save_caption()
    assert (folder / "00.caption").read_text() == "changed\n"
    assert (folder / "00.txt").read_text() == "not this one"
    assert data.editor.note.text() == "Saved 00.caption."
    found = data.tools._ask()
    assert found.extension == ".caption"
    data.tools.rename_tag("changed", "new")
    assert (folder / "00.caption").read_text() == "new\n"
    dialog = data.tools.captioner()
    assert "--extension=.caption" in " ".join(dialog.request().command())


def test_an_error_of_the_captioner_is_shown(open_data, qtbot, tmp_path, monkeypatch):
    folder = make_images(tmp_path / "p", count=1)
    data = open_data(folder, include_subdirectories=True).data
    monkeypatch.setattr(
        "stiefel_lora.ui.controllers.auto_captions.importlib.util.find_spec",
        lambda name: None,
    )
    dialog = data.tools.captioner()
    assert "Taggers require onnxruntime" in dialog.note.text()
    dialog.model.setText("someone/unknown")
    request = dialog.request()
    assert (request.folder, request.include_subdirectories) == (folder, True)
    assert "--download" not in request.command()
    dialog.download.setChecked(True)
    assert "--download" in dialog.request().command()
    dialog.download.setChecked(False)
    with qtbot.waitSignal(dialog.changed, timeout=120_000):
        dialog.start.click()
    assert "someone/unknown is not on this machine" in dialog.note.text()
    assert dialog.start.isEnabled()
    # A command that is stopped leaves what was written.
    dialog.start.click()
    dialog.stop.click()
    assert dialog.note.text().startswith("Stopped.")
    assert not dialog._process.is_running
    dialog.close()

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.runs import make_images
from stiefel_lora import _diagnosis
from stiefel_lora.jobs.new_config import propose


@pytest.fixture
def dialog(open_window, qtbot, monkeypatch: pytest.MonkeyPatch):
    from stiefel_lora.ui.views.new_training_dialog import NewTrainingDialog

    monkeypatch.setattr(_diagnosis, "_nvidia", lambda: "GPU, driver 1, 16380 MiB")
    window = open_window()
    found = NewTrainingDialog(window.document, window)
    qtbot.addWidget(found)
    return found


def test_three_answers_give_the_settings_of_the_command(
    dialog, open_window, tmp_path: Path
) -> None:
    folder = make_images(tmp_path / "cats", count=25)
    assert dialog.memory.value() == 16
    dialog.kind.setCurrentText("character")
    dialog.folder.setText(str(folder))
    dialog.accept()
    assert dialog.result() == dialog.DialogCode.Accepted
    assert "Steps: 630: 25 images x 100 times" in dialog.reasons_text
    assert "Preset: sdxl_stiefel_lora_16gb" in dialog.reasons_text
    document = dialog._document
    expected = propose("character", folder, vram=16)
    assert dialog.reasons == expected.reasons
    assert document.source.stem == "sdxl_stiefel_lora_16gb"
    for key in ("steps", "lora_rank", "trigger_word", "sample_every"):
        assert document.value(key) == expected.data[key]
    assert document.value("concepts")[0]["path"] == str(folder)
    assert document.data != document.baseline
    document.undo()
    assert document.value("trigger_word") is None


def test_what_is_wrong_is_shown_and_changes_nothing(dialog, tmp_path: Path) -> None:
    before = dict(dialog._document.data)
    dialog.accept()
    assert dialog.note.text() == "Choose the folder with your images."
    dialog.folder.setText(str(tmp_path / "nowhere"))
    dialog.accept()
    assert "does not exist" in dialog.note.text()
    dialog.family.setCurrentText("FLUX.1")
    dialog.memory.setValue(8)
    dialog.accept()
    assert dialog.note.text().startswith(
        "GPU memory (vram): must be at least 12 GB for flux"
    )
    assert dialog.result() != dialog.DialogCode.Accepted
    assert dialog._document.data == before


def test_the_window_shows_the_reasons(
    open_window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PySide6.QtWidgets import QMessageBox

    from stiefel_lora.ui.views import window as module

    def answer(dialog: Any) -> bool:
        dialog.folder.setText(str(make_images(tmp_path / "cats", count=25)))
        dialog.memory.setValue(16)
        dialog.accept()
        return bool(dialog.result())

    window = open_window(first=True)
    monkeypatch.setattr(module.NewTrainingDialog, "exec", answer)
    window.top.new.click()
    (box,) = window.findChildren(QMessageBox)
    assert "LoRA rank: 32: a style changes more" in box.informativeText()
    # The included images are no longer what would be trained.
    assert "Welcome" not in window.help.text()
    box.close()


def test_the_button_opens_it(open_window, monkeypatch: pytest.MonkeyPatch) -> None:
    from stiefel_lora.ui.views import window as module

    window, opened = open_window(), []
    monkeypatch.setattr(
        module.NewTrainingDialog, "exec", lambda dialog: opened.append(dialog) or 0
    )
    window.top.new.click()
    assert len(opened) == 1

from __future__ import annotations

import locale

from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication, QComboBox

from stiefel_lora.config.presets import find_config
from stiefel_lora.ui.controllers.fields import Kind
from stiefel_lora.ui.controllers.pages import TABS, all_fields


def rows(window):
    return dict(window.settings.rows())


def write(qtbot, line, text):
    line.setFocus()
    line.selectAll()
    qtbot.keyClicks(line, text)


def test_the_form_has_an_editor_for_every_setting_and_shows_its_value(open_window):
    window = open_window()
    window.open_file(find_config("demo_adamw"))
    found = rows(window)
    assert set(found) | {"optimizer"} == set(all_fields())
    assert found["lora_rank"].editor.line.text() == "16"
    assert found["learning_rate"].editor.line.text() == "0.003"
    assert found["output_formats"].editor.boxes["peft"].isChecked()
    assert len(found["samples"].editor.entries) == 6
    assert [window.tabs.tabText(i) for i in range(len(TABS))] == list(TABS)


def test_typing_changes_the_settings_and_undo_the_form(open_window, qtbot):
    window = open_window()
    line = rows(window)["lora_rank"].editor.line
    write(qtbot, line, "64")
    assert window.document.value("lora_rank") == 64
    window.top.undo.click()
    assert line.text() == "16"


def test_a_mistake_is_marked_at_the_field_and_mended_there(open_window, qtbot):
    window = open_window()
    row = rows(window)["learning_rate"]
    write(qtbot, row.editor.line, "much")
    window.examine()
    assert row.note.text() == 'Must be a number, but got "much".'
    assert not row.note.isHidden()
    write(qtbot, row.editor.line, "1e-3")
    window.examine()
    assert row.note.text() == ""
    assert window.document.value("learning_rate") == 1e-3


def test_choosing_stiefel_lora_locks_alpha_with_the_reason(open_window):
    window = open_window()
    window.open_file(find_config("demo_adamw"))
    alpha = rows(window)["lora_alpha"]
    assert alpha.editor.isEnabled()
    panel = window.settings.optimizer
    at = panel.combo.findText("Stiefel LoRA")
    panel.combo.setCurrentIndex(at)
    panel.combo.activated.emit(at)
    assert not alpha.editor.isEnabled()
    assert alpha.editor.line.text() == "16"
    assert "Set to the rank" in alpha.note.text()
    assert rows(window)["learning_rate"].editor.line.text() == "0.02"
    assert "b_rule" in panel.form.rows
    assert "weight_decay" in panel.form.rows


def test_an_emptied_field_means_its_default(open_window, qtbot):
    window = open_window()
    window.open_file(find_config("sdxl_adamw"))
    line = rows(window)["lora_rank"].editor.line
    line.setFocus()
    line.selectAll()
    qtbot.keyClick(line, Qt.Key.Key_Backspace)
    assert window.document.value("lora_rank") == 16
    line.editingFinished.emit()
    assert line.text() == "16"


def test_the_wheel_over_a_closed_combo_box_changes_nothing(open_window):
    window = open_window()
    combos = window.findChildren(QComboBox)
    assert len(combos) > 5
    for combo in combos:
        before = combo.currentIndex()
        event = QWheelEvent(
            QPointF(4, 4),
            QPointF(4, 4),
            QPoint(0, -120),
            QPoint(0, -120),
            Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QApplication.sendEvent(combo, event)
        assert combo.currentIndex() == before


def test_numbers_have_a_decimal_point_in_every_locale(open_window):
    open_window()
    assert locale.localeconv()["decimal_point"] == "."


def test_records_are_added_moved_and_removed(open_window):
    window = open_window()
    editor = rows(window)["samples"].editor
    for prompt in ("a cat", "a dog"):
        editor.add.click()
        editor.entries[-1].form.rows["prompt"].editor._typed(prompt)
    editor.entries[1].moved.emit(-1)
    assert window.document.value("samples") == [
        {"prompt": "a dog"},
        {"prompt": "a cat"},
    ]
    editor.entries[0].removed.emit()
    assert window.document.value("samples") == [{"prompt": "a cat"}]


def test_every_editor_can_be_reached_by_keyboard(open_window):
    window = open_window()
    closed = [
        key
        for key, row in rows(window).items()
        if row.field.kind is not Kind.CHOICES
        and row.editor.isEnabled()
        and not (row.editor.focusProxy() or row.editor).focusPolicy()
        & Qt.FocusPolicy.TabFocus
    ]
    assert not closed


def test_the_focused_field_is_explained(open_window, qtbot):
    window = open_window()
    window.go_to("seed")
    qtbot.waitUntil(lambda: "same seed reproduces a run" in window.help.text())


def test_the_next_start_finds_the_settings(open_window):
    window = open_window()
    window.open_file(find_config("demo_adamw"))
    window.document.set("lora_rank", 12)
    window.close()
    again = open_window()
    assert again.document.value("lora_rank") == 12
    assert again.top.presets.text() == "Preset: demo_adamw (changed)  ▾"


def test_presets_are_found_by_search_and_chosen(open_window, qtbot):
    window = open_window()
    list_ = window.top.presets.list
    window.top.presets.open_list()
    qtbot.keyClicks(list_.search, "sdxl adamw habit")
    assert list_.list.count() == 0
    list_.search.clear()
    qtbot.keyClicks(list_.search, "demo_adamw")
    assert list_.list.count() == 1
    qtbot.keyClick(list_.search, Qt.Key.Key_Return)
    assert window.document.source.stem == "demo_adamw"


def test_a_warmup_has_other_units(open_window):
    window = open_window()
    editor = rows(window)["learning_rate_warmup_steps"].editor
    units = [editor.unit.itemText(i) for i in range(editor.unit.count())]
    assert units == ["steps", "%", "epochs"]
    window.document.set("learning_rate_warmup_steps", "5 %")
    assert (editor.line.text(), editor.unit.currentText()) == ("5", "%")
    editor.unit.setCurrentText("epochs")
    editor.unit.activated.emit(2)
    assert window.document.value("learning_rate_warmup_steps") == "5 epochs"


def test_an_interval_has_a_number_and_a_unit(open_window, qtbot):
    window = open_window()
    document = window.document
    editor = rows(window)["sample_every"].editor
    assert rows(window)["rank_every"].editor.field.kind is Kind.INTERVAL
    document.set("sample_every", "10 minutes")
    assert (editor.line.text(), editor.unit.currentText()) == ("10", "minutes")
    write(qtbot, editor.line, "0,5")
    assert document.value("sample_every") == "0.5 minutes"
    editor.unit.setCurrentText("epochs")
    editor.unit.activated.emit(1)
    assert document.value("sample_every") == "0.5 epochs"
    editor.unit.setCurrentText("steps")
    editor.unit.activated.emit(0)
    write(qtbot, editor.line, "250")
    assert document.value("sample_every") == 250
    document.set("sample_every", "1 epoch")
    assert (editor.line.text(), editor.unit.currentText()) == ("1", "epochs")
    editor.line.clear()
    editor.line.textEdited.emit("")
    assert document.value("sample_every") == 0
    rank = rows(window)["rank_every"].editor
    rank.unit.activated.emit(1)
    assert not document.is_set("rank_every")

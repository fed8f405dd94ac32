"""The window fits small screens, and long texts end with an ellipsis."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QPoint, QRect, QSize
from PySide6.QtWidgets import QLabel, QScrollArea, QStyle, QStyleOptionTab, QTabBar

from helpers.written_run import WrittenRun
from stiefel_lora.ui.controllers.memory import Memory
from stiefel_lora.ui.views.basics import Elided


def place_in(widget, window) -> QRect:
    return QRect(widget.mapTo(window, QPoint(0, 0)), widget.size())


# Logical pixels: two laptops, and the first one at 150 %.
@pytest.mark.parametrize("size", [(1280, 800), (1366, 768), (853, 533)])
def test_every_tab_fits_the_screen_with_its_help_line(open_window, tmp_path, size):
    run = WrittenRun(tmp_path / "cats")
    run.start()
    run.train(1)
    run.ranks(1)
    run.sample(1)
    window = open_window()
    window.runs.show(run.root)
    window.show_tab(window.runs.run_tab)
    window.resize(*size)
    inside = QRect(QPoint(0, 0), QSize(*size))
    for index in range(window.tabs.count()):
        window.tabs.setCurrentIndex(index)
        window.grab()
        assert window.size() == QSize(*size), window.tabs.tabText(index)
        for widget in (window.help, window.top.start, window.top.themes, window.tabs):
            assert inside.contains(place_in(widget, window))
        if window.tabs.tabText(index) in ("Run", "LoRA files", "Queue"):
            # They shrink instead of being scrolled as a whole.
            assert not isinstance(window.tabs.currentWidget(), QScrollArea)
        room = window.help.contentsRect().height()
        assert room >= 2 * window.fontMetrics().lineSpacing()


def test_the_texts_of_tabs_are_not_cut(open_window):
    window = open_window()
    for bar in window.findChildren(QTabBar):
        for index in range(bar.count()):
            option = QStyleOptionTab()
            bar.initStyleOption(option, index)
            text = QStyle.SubElement.SE_TabBarTabText
            room = bar.style().subElementRect(text, option, bar)
            assert room.height() >= bar.fontMetrics().height(), bar.tabText(index)


@pytest.mark.parametrize("screen", [(1280, 800), (1366, 768), (1366, 728)])
def test_the_first_window_leaves_room_for_its_frame(open_window, screen):
    window = open_window()
    assert Memory().size == [window.width(), window.height()]
    window.fit_into(QSize(*screen))
    assert window.height() <= screen[1] - 48
    assert window.width() <= screen[0]
    window.fit_into(QSize(1920, 1080))
    assert window.height() <= screen[1] - 48


def test_a_label_without_room_ends_with_an_ellipsis(qtbot):
    label, plain = Elided(), QLabel()
    text = "a text that is longer than its label"
    for widget in (label, plain):
        qtbot.addWidget(widget)
        widget.setText(text)
        widget.resize(80, 20)
    assert label.minimumSizeHint().width() == 0
    assert label.toolTip() == text
    assert label.grab().toImage() != plain.grab().toImage()
    for widget in (label, plain):
        widget.resize(600, 20)
    assert label.grab().toImage() == plain.grab().toImage()

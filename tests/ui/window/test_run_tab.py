"""Plots, status and samples of a run, which explain themselves."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import QPoint, QPointF, QSize, Qt
from PySide6.QtGui import QIcon, QImage, QMouseEvent
from PySide6.QtWidgets import QLabel, QPushButton

from helpers.written_run import WrittenRun
from stiefel_lora.ui.controllers.column_labels import even_distance


@pytest.fixture
def run(tmp_path: Path) -> WrittenRun:
    written = WrittenRun(tmp_path / "runs" / "cats")
    written.start()
    for step in range(1, 31):
        written.sink.scalars(
            "train", step, {"loss/train": 0.5, "lr/unet": 1e-3, "lr/text_encoder": 5e-4}
        )
    return written


def show(window, run: WrittenRun):
    """Open the Run tab with a run."""
    window.runs.show(run.root)
    window.show_tab(window.runs.run_tab)
    return window.runs.run_tab


def test_axes_and_the_colors_of_the_heat_map_have_labels(open_window, run):
    run.ranks(10)
    plots = show(open_window(), run).plots
    for plot, name in (
        (plots.curves.loss, "Loss"),
        (plots.curves.rank, "Effective rank"),
        (plots.curves.rate, "Learning rate"),
    ):
        assert plot.getAxis("left").labelText == name
        assert plot.getAxis("bottom").labelText == "Step"
    heat_map = plots.heat_map
    assert heat_map.plot.getAxis("left").labelText == "Block"
    assert heat_map.plot.getAxis("bottom").labelText == "Step"
    assert heat_map.bar.axis.labelText == "Effective rank / rank"
    assert heat_map.bar.isVisible()
    ticks = heat_map.bar.axis._tickLevels[0]
    assert ticks[0] == (0, "0 %")
    assert ticks[-1] == (1, "100 %")


def test_the_color_bar_has_the_colors_of_the_map(open_window, run):
    run.ranks(10, share=0.5)
    heat_map = show(open_window(), run).plots.heat_map
    pixels = heat_map.bar.bar.pixmap().toImage()
    place = QPoint(pixels.width() // 2, pixels.height() // 2)
    drawn = heat_map.image.lut[int(heat_map.image.image[0, 0])]
    found = pixels.pixelColor(place)
    assert [found.red(), found.green(), found.blue()] == pytest.approx(
        list(drawn[:3]), abs=4
    )


def test_ticks_of_the_heat_map_are_at_equal_distances(open_window, run):
    window = open_window()
    for number in range(1, 13):
        run.ranks(5 * number)
    heat_map = show(window, run).plots.heat_map
    ticks = heat_map.plot.getAxis("bottom")._tickLevels[0]
    assert [text for _, text in ticks] == ["10", "20", "30", "40", "50", "60"]
    places = [place for place, _ in ticks]
    assert {b - a for a, b in itertools.pairwise(places)} == {2}


def test_labels_of_sections_never_overlap(open_window, run):
    run.ranks(10)
    window = open_window()
    heat_map = show(window, run).plots.heat_map
    for height in (700, 200):
        heat_map.plot.setFixedHeight(height)
        heat_map.grab()
        heat_map.name_sections([(0, "a"), (1, "b"), (20, "c"), (80, "d")], 100)
        room = heat_map.plot.plotItem.vb.height() / 100
        rows = [row for row, _ in heat_map.plot.getAxis("left")._tickLevels[0]]
        assert rows[0] == 0
        apart = [b - a for a, b in itertools.pairwise(rows)]
        assert min(apart) * room >= heat_map.fontMetrics().height()
    assert rows[-1] == 80


@pytest.mark.parametrize(
    ("count", "most", "apart"),
    [(1, 6, 1), (6, 6, 1), (7, 6, 2), (40, 6, 10), (9, 9, 1)],
)
def test_the_distance_of_labels_is_a_round_number(count, most, apart):
    assert even_distance(count, most) == apart
    assert count / apart <= most


def test_each_learning_rate_has_its_own_color(open_window, run):
    run.sink.scalars("train", 31, {"lr/text_encoder_2": 5e-4})
    lines = show(open_window(), run).plots.curves._lines
    pens = [line.opts["pen"] for tag, line in lines.items() if tag.startswith("lr/")]
    assert len(pens) == 3
    assert len({pen.color().name() for pen in pens}) == 3
    assert len({pen.style() for pen in pens}) == 3


def test_every_plot_has_a_line_that_explains_it(open_window, run):
    run.ranks(10)
    plots = show(open_window(), run).plots
    texts = [label.text() for label in plots.curves.findChildren(QLabel)]
    assert len(texts) == 3
    assert any("overfits" in text for text in texts)
    assert "at most the rank" in " ".join(texts)
    assert plots.heat_map.label.text().startswith("Yellow blocks use all directions")


def test_the_loss_of_each_range_is_below_the_plot(open_window, run):
    for step, low in ((0, 0.25), (20, 0.125)):
        values = {"validation/loss": 0.5, "validation/timesteps_000-499": low}
        values["validation/timesteps_500-999"] = 1 - low
        run.sink.scalars("validation", step, values)
    curves = show(open_window(), run).plots.curves
    assert curves.captions["Loss"].toolTip() == (
        "Validation loss by timesteps (0 is no noise): 0-499 0.125, 500-999 0.875"
    )


def test_the_bar_shows_percent(open_window, run):
    tab = show(open_window(), run)
    assert tab.bar.isTextVisible()
    assert tab.bar.text() == "30 %"


def test_the_status_is_visible_on_every_other_tab(open_window, run):
    window = open_window()
    status = window.runs.status
    assert status.title.text() == "No training is running."
    show(window, run)
    for index in range(window.tabs.count()):
        window.tabs.setCurrentIndex(index)
        if window.tabs.currentWidget() is window.runs.run_tab:
            assert not status.isVisible()
            continue
        assert status.isVisible()
        assert window.isAncestorOf(status)
        assert status.title.text() == "cats: running"
        assert status.bar.text() == "30 %"
        assert "step 30/100" in status.figures.text()
    status.button.click()
    assert window.tabs.currentWidget() is window.runs.run_tab


def test_there_is_one_start_button_and_it_stands_out(open_window):
    window = open_window()
    found = [
        button
        for button in window.findChildren(QPushButton)
        if button.text().startswith("Start")
    ]
    assert found == [window.top.start]
    assert found[0].shortcut().toString() == "Ctrl+R"
    window.set_theme("light")
    image = found[0].grab().toImage()
    others = window.runs.run_tab.buttons["folder"].grab().toImage()
    at = QPoint(4, image.height() // 2)
    assert image.pixelColor(at).saturation() > 100
    assert others.pixelColor(at).saturation() < 40


# Samples ------------------------------------------------------------------------------


def sampled(run: WrittenRun, steps: list[int], side: int = 64) -> None:
    """Write rounds of two samples, whose brightness is their step."""
    config = {"steps": 100, "samples": [{"prompt": "a cat"}, {"prompt": "a red dog"}]}
    (run.root / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for step in steps:
        names = [f"step-{step:06d}-{index}.png" for index in range(2)]
        for name in names:
            color = (step, 0, 0) if name.endswith("0.png") else (0, step, 0)
            Image.new("RGB", (side, side), color).save(run.root / "samples" / name)
        run.sink.event("sample", step, {"files": names})


def test_a_run_without_samples_shows_where_to_set_them(open_window, run):
    gallery = show(open_window(), run).gallery
    assert gallery.empty.isVisibleTo(gallery)
    assert not gallery.view.isVisibleTo(gallery)
    assert "Sampling" in gallery.empty.text()
    sampled(run, [0])
    gallery = show(open_window(), run).gallery
    assert not gallery.empty.isVisibleTo(gallery)
    assert gallery.view.isVisibleTo(gallery)


def test_samples_have_a_row_per_prompt_and_a_column_per_step(open_window, qtbot, run):
    sampled(run, [0, 100, 200])
    gallery = show(open_window(), run).gallery
    model = gallery.model
    assert (model.rowCount(), model.columnCount()) == (2, 3)
    vertical, horizontal = Qt.Orientation.Vertical, Qt.Orientation.Horizontal
    assert [model.headerData(i, vertical) for i in range(2)] == ["a cat", "a red dog"]
    assert [model.headerData(i, horizontal) for i in range(3)] == [
        "step 0",
        "step 100",
        "step 200",
    ]
    role = Qt.ItemDataRole.DecorationRole

    def color(row: int, column: int) -> tuple[int, ...]:
        icon = model.data(model.index(row, column), role)
        image = icon.pixmap(QSize(32, 32), QIcon.Mode.Selected).toImage()
        return image.pixelColor(16, 16).getRgb()

    expected = {
        (row, column): (100 * column, 0, 0, 255)
        if row == 0
        else (0, 100 * column, 0, 255)
        for row in range(2)
        for column in range(3)
    }
    qtbot.waitUntil(lambda: all(color(*at) == rgb for at, rgb in expected.items()))


def test_opening_samples_decodes_nothing_in_the_thread_of_the_window(
    open_window, qtbot, run, monkeypatch
):
    from threading import current_thread, main_thread

    from stiefel_lora.ui.views import thumbnails

    sampled(run, [0, 100])
    threads = []
    load = thumbnails.load_image
    monkeypatch.setattr(
        thumbnails,
        "load_image",
        lambda path, side: threads.append(current_thread()) or load(path, side=side),
    )
    window = open_window()
    ready = show(window, run).gallery.model._thumbnails._ready
    qtbot.waitUntil(lambda: len(ready) == 4)
    sampled(run, [200])
    window.runs.look()
    qtbot.waitUntil(lambda: len(ready) == 6)
    # Only the new images are loaded.
    assert len(threads) == 6
    assert main_thread() not in threads


def test_the_slider_shows_the_image_before_left_and_after_right(
    open_window, qtbot, run
):
    sampled(run, [0, 200])
    window = open_window()
    comparison = show(window, run).gallery.comparison
    pair = comparison.pair
    qtbot.waitUntil(lambda: not pair.images[1].isNull())
    assert (comparison.before.text(), comparison.after.text()) == ("step 0", "step 200")

    def reds(*places: float) -> list[int]:
        frame, image = pair._frame(), pair.grab().toImage()
        y = frame.center().y()
        return [
            image.pixelColor(frame.left() + int(frame.width() * at), y).red()
            for at in places
        ]

    assert reds(0.25, 0.75) == [0, 200]
    comparison.slider.setValue(0)
    assert reds(0.25, 0.75) == [200, 200]
    comparison.slider.setValue(1000)
    assert reds(0.25, 0.75) == [0, 0]
    frame = pair._frame()
    at = QPointF(frame.left() + 0.1 * frame.width(), frame.center().y())
    left = Qt.MouseButton.LeftButton
    pair.mousePressEvent(
        QMouseEvent(
            QMouseEvent.Type.MouseButtonPress,
            at,
            pair.mapToGlobal(at),
            left,
            left,
            Qt.KeyboardModifier.NoModifier,
        )
    )
    assert abs(comparison.slider.value() - 100) < 20
    assert reds(0.05, 0.5) == [0, 200]


def test_new_samples_are_selected_unless_an_earlier_one_is(open_window, run):
    sampled(run, [0, 100])
    window = open_window()
    gallery = show(window, run).gallery
    at = gallery.view.currentIndex
    assert (at().row(), at().column()) == (0, 1)
    gallery.view.setCurrentIndex(gallery.model.index(1, 1))
    sampled(run, [150])
    window.runs.look()
    assert (at().row(), at().column()) == (1, 2)
    gallery.view.setCurrentIndex(gallery.model.index(1, 1))
    sampled(run, [200])
    window.runs.look()
    assert (at().row(), at().column()) == (1, 1)
    assert gallery.comparison.after.text() == "step 100"


def test_a_damaged_sample_leaves_its_place_empty(open_window, qtbot, run):
    sampled(run, [0, 100])
    (run.root / "samples" / "step-000100-0.png").write_bytes(b"\x89PNG broken")
    gallery = show(open_window(), run).gallery
    gallery.finish()
    qtbot.wait(10)
    assert gallery.comparison.pair.images[1] == QImage()
    assert not gallery.comparison.pair.grab().isNull()


def test_the_spectrum_of_a_file_has_a_color_bar_too(open_window):
    import numpy as np

    spectrum = open_window().lora.spectrum
    assert not spectrum.bar.isVisible()
    spectrum.draw(np.ones((4, 3)), 1)
    spectrum.show_axes(True)
    ticks = [text for _, text in spectrum.bar.axis._tickLevels[0]]
    assert ticks == ["1/1000", "1/100", "1/10", "1"]

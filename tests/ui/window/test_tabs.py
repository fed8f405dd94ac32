from __future__ import annotations

from PySide6.QtCore import QPointF
from PySide6.QtGui import QImage

from helpers.runs import make_images
from helpers.written_run import WrittenRun
from stiefel_lora.config.presets import find_config
from stiefel_lora.ui.controllers.tensorboard_server import TensorBoardServer
from stiefel_lora.ui.views.difference_dialog import DifferenceDialog
from stiefel_lora.ui.views.theme import apply_theme, is_dark


def test_images_and_captions_are_shown_and_captions_saved(open_window, qtbot, tmp_path):
    folder = make_images(tmp_path / "katzen 猫")
    window = open_window()
    window.document.set("concepts", [{"path": str(folder)}])
    window.examine()
    data = window.data
    assert data.folders.currentText() == "katzen 猫"
    qtbot.waitUntil(lambda: len(data.model.paths) == 4)
    assert data.caption.toPlainText() == "thing 0"
    data.caption.selectAll()
    qtbot.keyClicks(data.caption, "a small cat")
    data.list.setCurrentIndex(data.model.index(1))
    assert (folder / "00.txt").read_text(encoding="utf-8") == "a small cat\n"
    assert data.caption.toPlainText() == "thing 1"
    assert (folder / "01.txt").read_text(encoding="utf-8") == "thing 1"


def test_thumbnails_are_made_and_damaged_files_do_no_harm(open_window, qtbot, tmp_path):
    folder = make_images(tmp_path / "p", count=2)
    (folder / "01.png").write_bytes(b"\x89PNG broken")
    window = open_window()
    window.show_tab(window.data)
    window.document.set("concepts", [{"path": str(folder)}])
    window.examine()
    model = window.data.model
    qtbot.waitUntil(lambda: len(model._ready) == 2)
    good, bad = (model._ready[folder / f"0{i}.png"] for i in range(2))
    assert not blank(good.toImage())
    assert blank(bad.toImage())


def blank(image: QImage) -> bool:
    return all(
        image.pixelColor(x, y).alpha() == 0
        for x in range(0, image.width(), 8)
        for y in range(0, image.height(), 8)
    )


def test_problems_of_images_are_listed_and_lead_to_the_image(
    open_window, qtbot, tmp_path
):
    folder = make_images(tmp_path / "p", count=3)
    (folder / "02.txt").unlink()
    window = open_window()
    window.document.set("resolution", 32)
    window.document.set("concepts", [{"path": str(folder)}])
    window.examine()
    page = window.data.survey
    qtbot.waitUntil(lambda: page.problems.count() == 1)
    assert page.problems.item(0).text() == "02.png: no caption"
    assert page.table.item(0, 0).text() == "32 x 32"
    assert page.table.item(0, 1).text() == "3"
    page.problems.itemClicked.emit(page.problems.item(0))
    assert window.data._shown == folder / "02.png"
    qtbot.keyClicks(window.data.caption, "third")
    window.data.save_caption()
    assert (folder / "02.txt").read_text() == "third\n"


def test_the_run_tab_shows_curves_heat_map_and_samples(open_window, qtbot, tmp_path):
    run = WrittenRun(tmp_path / "runs" / "cats")
    run.start()
    run.sample(0)
    for step in range(1, 31):
        run.train(step)
    run.ranks(10)
    run.ranks(20, share=0.9)
    window = open_window()
    runs = window.runs
    window.show_tab(runs.run_tab)
    runs.show(run.root)
    plots = runs.run_tab.plots
    assert plots.heat_map.image.image.shape == (2, 6)
    assert runs.run_tab.gallery.model.prompts == ["a cat"]
    assert runs.run_tab.gallery.model.steps == [0]
    assert "step 30/100" in runs.run_tab.figures.text()
    run.ranks(30)
    runs.look()
    assert plots.heat_map.image.image.shape == (3, 6)
    view = plots.heat_map.plot.plotItem.vb
    plots.heat_map._hover(view.mapViewToScene(QPointF(1.5, 4.5)))
    assert "down_blocks.1.layer.1" in plots.heat_map.label.text()
    assert "14.4 of 16" in plots.heat_map.label.text()


def test_who_comes_first_finds_the_demo_ready_to_start(open_window):
    window = open_window(first=True)
    assert window.document.source.stem == "demo_stiefel_lora"
    assert window.findings.ready
    assert "press Start" in window.help.text()
    assert window.top.start.isVisible()
    assert not window.top.problems.isVisible()
    assert not window.document.can_undo
    assert not window.top.undo.isEnabled()
    window.document.set("lora_rank", 4)
    assert window.top.undo.isEnabled()
    window.examine()
    assert "Welcome" not in window.help.text()
    window.close()
    again = open_window(first=True)
    assert again.document.value("lora_rank") == 4
    assert "Welcome" not in again.help.text()


def test_start_with_something_missing_goes_to_it(open_window):
    window = open_window()
    window.top.start.click()
    assert window.tabs.tabText(window.tabs.currentIndex()) == "General"
    assert window.runs.trainings.jobs() == []
    assert window.top.problems.text().startswith("2 problems")


def test_start_with_a_folder_without_images_says_so(open_window, tmp_path, monkeypatch):
    window = open_window()
    said = []
    monkeypatch.setattr(window, "complain", lambda *texts: said.append(texts))
    window.open_file(find_config("demo_adamw"))
    window.document.set("concepts", [{"path": str(tmp_path)}])
    window.start()
    assert "no images" in said[0][1]
    assert window.runs.trainings.jobs() == []


def test_both_themes_colour_the_whole_window(open_window):
    window = open_window()
    for theme, dark in (("dark", True), ("light", False)):
        window.set_theme(theme)
        assert is_dark() is dark
        pixel = window.grab().toImage().pixelColor(3, window.height() - 3)
        assert (pixel.lightness() < 128) is dark
    assert window.memory.theme == "light"
    apply_theme("light")


def test_differences_are_listed_and_taken_back(open_window):
    window = open_window()
    window.open_file(find_config("demo_adamw"))
    window.document.set("lora_rank", 4)
    window.document.set("seed", 7)
    dialog = DifferenceDialog(window.document, window)
    texts = [dialog.table.item(row, 0).text() for row in range(2)]
    assert texts == ["Seed", "LoRA rank"]
    assert "demo_adamw" in dialog.title.text()
    dialog.table.selectRow(1)
    dialog.back.click()
    assert window.document.value("lora_rank") == 16
    assert dialog.table.rowCount() == 1
    dialog.close()


def test_tensorboard_answers_and_ends_with_the_window(tmp_path, qtbot):
    server = TensorBoardServer()
    server.start(tmp_path)
    qtbot.waitUntil(server.answers, timeout=300_000)
    assert not server.ended
    server.stop()
    assert server.ended

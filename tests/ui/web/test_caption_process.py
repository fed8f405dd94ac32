"""Automatic captions by a process of the server."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from PIL import Image

from helpers.tiny_tagger import make_tagger
from stiefel_lora._exceptions import ConfigError
from stiefel_lora.config import Concept
from stiefel_lora.ui.controllers.auto_captions import CaptionRequest, WrittenCaptions
from stiefel_lora.ui.controllers.bulk_edit import EditableCaptions
from stiefel_lora.ui.controllers.caption_journal import undo_last_edit
from stiefel_lora.ui.controllers.image_captions import open_shelf
from stiefel_lora.ui.web.caption_process import CaptionProcess, usable_model
from stiefel_lora.ui.web.served_images import DatasetRoots

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "images"
    found.mkdir()
    for name in "ab":
        Image.new("RGB", (32, 32), (255, 0, 0)).save(found / f"{name}.png")
    (found / "a.txt").write_text("mine")
    return found


def captions_of(folder: Path) -> EditableCaptions:
    concept = Concept(path=folder)
    return EditableCaptions.of(open_shelf(concept), concept, None, ())


def test_captions_are_written_and_undone(folder: Path, tmp_path: Path) -> None:
    model = make_tagger(tmp_path / "model")
    request = CaptionRequest(folder, str(model), exclude="-x,some_hero", overwrite=True)
    process, captions = CaptionProcess(), captions_of(folder)

    async def write() -> str:
        task = asyncio.create_task(
            process.run(request, lambda: WrittenCaptions(captions))
        )
        await asyncio.sleep(0)
        assert process.is_running
        with pytest.raises(ConfigError, match=f"Captions of {folder} are being"):
            await process.run(request, lambda: WrittenCaptions(captions))
        return await task

    text = asyncio.run(write())
    assert text == "2 captions were written. Undo edit restores the previous ones."
    assert process.lines[0] == "1/2 a.png: red thing"
    assert process.note == "2 captions were written."
    assert not process.failed
    assert not process.is_running
    assert (folder / "a.txt").read_text() == "red thing\n"
    undo_last_edit()
    assert (folder / "a.txt").read_text() == "mine"
    assert not (folder / "b.txt").exists()


def test_an_error_is_kept_for_all_browsers(folder: Path) -> None:
    process = CaptionProcess()
    request = CaptionRequest(folder, "someone/unknown")
    captions = captions_of(folder)
    asyncio.run(process.run(request, lambda: WrittenCaptions(captions)))
    assert process.failed
    assert "someone/unknown is not on this machine" in process.note
    assert not process.is_running


def test_a_process_that_is_stopped_ends(folder: Path) -> None:
    process, captions = CaptionProcess(), captions_of(folder)

    async def stop() -> None:
        request = CaptionRequest(folder, "someone/unknown")
        task = asyncio.create_task(
            process.run(request, lambda: WrittenCaptions(captions))
        )
        await asyncio.sleep(0)
        process.stop()
        await task

    asyncio.run(stop())
    assert process.note.startswith("Stopped.")
    assert not process.failed


def test_models_of_other_folders_are_refused(tmp_path: Path) -> None:
    inside, outside = tmp_path / "models" / "tagger", tmp_path / "outside"
    for path in (inside, outside):
        path.mkdir(parents=True)
    if sys.platform != "win32":
        (inside / "link").symlink_to(outside)
    roots = DatasetRoots([tmp_path / "models"])
    assert usable_model(str(inside), roots) == str(inside.resolve())
    assert usable_model("someone/tagger", roots) == "someone/tagger"
    for text in (
        str(outside),
        str(inside / "link"),
        str(inside / ".." / ".." / "outside"),
        str(inside / "missing"),
        "/etc",
        "../outside",
        "~/models",
        "models",
        "--download",
        "",
    ):
        with pytest.raises(ConfigError, match="Model: must be a name on the Hugging"):
            usable_model(text, roots)


def test_selected_images_are_what_an_edit_proposes(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        Image.new("RGB", (64, 64)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(name)
    concept = Concept(path=tmp_path)
    shelf = open_shelf(concept)
    images = sorted(shelf.captions)
    found = EditableCaptions.of(shelf, concept, None, images[:2], images[1:])
    assert found.proposed == "Selected images (2)"
    found = EditableCaptions.of(shelf, concept, None, images[:2])
    assert found.proposed == "All images of the folder (3)"

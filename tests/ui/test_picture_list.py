from __future__ import annotations

from helpers.runs import make_images
from stiefel_lora.config import Concept
from stiefel_lora.data.caption_files import write_caption
from stiefel_lora.ui.controllers.image_captions import caption_of, open_shelf
from stiefel_lora.ui.controllers.memory import Memory, home


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_looking_changes_nothing_and_saving_only_the_edited_caption(tmp_path):
    folder = make_images(tmp_path / "Bilder mit Leerzeichen 写真")
    before = contents(folder)
    shelf = open_shelf(Concept(path=folder))
    texts = {path.name: text for path, text in shelf.captions.items()}
    assert texts == {f"0{i}.png": f"thing {i}" for i in range(4)}
    picture = folder / "01.png"
    assert not write_caption(picture, "  thing 1\n")
    assert contents(folder) == before
    assert write_caption(picture, "Kätzchen, 猫")
    after = contents(folder)
    assert {name for name in after if after[name] != before.get(name)} == {"01.txt"}
    assert caption_of(picture) == ("Kätzchen, 猫", "")


def test_an_empty_caption_makes_no_file(tmp_path):
    folder = make_images(tmp_path / "p", count=1)
    (folder / "00.txt").unlink()
    assert not write_caption(folder / "00.png", " ")
    assert not (folder / "00.txt").exists()


def test_problems_of_a_folder_or_caption_are_shown(tmp_path):
    nowhere = open_shelf(Concept(path=tmp_path / "nowhere"))
    assert "does not exist" in nowhere.message
    assert "contains no images" in open_shelf(Concept(path=tmp_path)).message
    folder = make_images(tmp_path / "p", count=1)
    (folder / "00.txt").write_bytes(b"\xff\xfe\xff")
    text, wrong = caption_of(folder / "00.png")
    assert text is None
    assert "not UTF-8" in wrong
    assert list(open_shelf(Concept(path=folder)).captions) == [folder / "00.png"]


def test_captions_from_elsewhere_are_shown_and_locked(tmp_path):
    folder = make_images(tmp_path / "p", count=1)
    shelf = open_shelf(Concept(path=folder, prompt_source="filename"))
    assert shelf.captions == {folder / "00.png": "00"}
    assert "are the image file names" in shelf.locked
    (folder / "00.txt").unlink()
    (folder / "metadata.jsonl").write_text('{"file_name": "00.png", "text": "a dog"}')
    shelf = open_shelf(Concept(path=folder))
    assert shelf.captions == {folder / "00.png": "a dog"}
    assert not shelf.locked


def test_a_damaged_memory_is_a_fresh_start():
    memory = Memory(data={"lora_rank": 8}, tab=2)
    memory.save()
    assert Memory.load() == memory
    (home() / "window.json").write_text('{"tab": "two", "theme"')
    assert Memory.load() == Memory()
    (home() / "window.json").write_text('{"tab": "two", "theme": "dark"}')
    assert Memory.load() == Memory(theme="dark")

from __future__ import annotations

from helpers.runs import make_pictures
from stiefel_lora.ui.controllers.memory import Memory, home
from stiefel_lora.ui.controllers.pictures import caption_of, open_shelf, write_caption


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_looking_changes_nothing_and_saving_only_the_edited_caption(tmp_path):
    folder = make_pictures(tmp_path / "Bilder mit Leerzeichen 写真")
    before = contents(folder)
    shelf = open_shelf(folder)
    assert [path.name for path in shelf.paths] == [f"0{i}.png" for i in range(4)]
    assert caption_of(shelf.paths[1]) == ("thing 1", "")
    assert not write_caption(shelf.paths[1], "  thing 1\n")
    assert contents(folder) == before
    assert write_caption(shelf.paths[1], "Kätzchen, 猫")
    after = contents(folder)
    assert {name for name in after if after[name] != before.get(name)} == {"01.txt"}
    assert caption_of(shelf.paths[1]) == ("Kätzchen, 猫", "")


def test_an_empty_caption_makes_no_file(tmp_path):
    folder = make_pictures(tmp_path / "p", count=1)
    (folder / "00.txt").unlink()
    assert not write_caption(folder / "00.png", " ")
    assert not (folder / "00.txt").exists()


def test_what_is_wrong_with_a_folder_or_caption_is_said(tmp_path):
    assert "can not be read" in open_shelf(tmp_path / "nowhere").message
    assert "has no pictures" in open_shelf(tmp_path).message
    folder = make_pictures(tmp_path / "p", count=1)
    (folder / "00.txt").write_bytes(b"\xff\xfe\xff")
    text, wrong = caption_of(folder / "00.png")
    assert text is None
    assert "not UTF-8" in wrong


def test_a_damaged_memory_is_a_fresh_start():
    memory = Memory(data={"lora_rank": 8}, tab=2)
    memory.save()
    assert Memory.load() == memory
    (home() / "window.json").write_text('{"tab": "two", "theme"')
    assert Memory.load() == Memory()
    (home() / "window.json").write_text('{"tab": "two", "theme": "dark"}')
    assert Memory.load() == Memory(theme="dark")

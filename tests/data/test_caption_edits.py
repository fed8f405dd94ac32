from __future__ import annotations

import json
import os

import pytest

from helpers.runs import make_images
from stiefel_lora import OutputError
from stiefel_lora.data.caption_edits import (
    appended,
    prepended,
    removed_tag,
    renamed_tag,
    replaced,
    tag_counts,
    trigger_added,
)
from stiefel_lora.data.caption_files import (
    apply_changes,
    changes_by,
    last_edit,
    undo_changes,
)

TITLE = "Put 'photo' in front"


def captions_in(folder):
    return {
        image: image.with_suffix(".txt").read_text().strip()
        if image.with_suffix(".txt").exists()
        else ""
        for image in sorted(folder.glob("*.png"))
    }


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    ("edit", "before", "after"),
    [
        (prepended("photo of ", ""), "a cat", "photo of a cat"),
        (appended("."), "", "."),
        (replaced("a.c", "x"), "abc, A.C", "abc, x"),
        (replaced("Cat", "dog", match_case=True), "cat, Cat", "cat, dog"),
        (replaced("cat", r"\1", whole_words=True), "cat, cats", r"\1, cats"),
        (replaced("猫", "cat"), "黒猫", "黒cat"),
        (trigger_added("ohwx"), "an OHWX cat", "an OHWX cat"),
        (trigger_added("ohwx"), "ohwxman", "ohwx, ohwxman"),
        (trigger_added("ohwx"), "", "ohwx"),
        (removed_tag("a"), "a", ""),
        (removed_tag("a", " "), "b a c", "b c"),
        (renamed_tag("a", "b"), "a,b,c,a", "b, c"),
        (renamed_tag("a b", "c"), "A b, a b", "A b, c"),
    ],
)
def test_edits(edit, before, after):
    assert edit(before) == after


def test_tags_are_counted_once_an_image_and_sorted():
    counts = tag_counts(["b, a, a", "a,", "c; b"])
    assert list(counts.items()) == [("a", 2), ("b", 1), ("c; b", 1)]
    assert tag_counts(["x|y", "y"], "|") == {"y": 2, "x": 1}


def test_an_edit_is_written_and_undone_to_the_byte(tmp_path):
    folder = make_images(tmp_path / "p", count=4)
    (folder / "01.txt").unlink()
    (folder / "02.txt").write_bytes("\ufeffcat\r\n".encode("utf-16-le"))
    before = contents(folder)
    captions = captions_in(make_images(tmp_path / "q", count=4))
    captions = {folder / image.name: text for image, text in captions.items()}
    captions[folder / "01.png"] = ""
    captions[folder / "02.png"] = "cat"
    changes = changes_by(prepended("photo"), captions)
    # Nothing is written before it is asked for.
    assert contents(folder) == before
    journal = tmp_path / "journal.json"
    apply_changes(changes, TITLE, journal)
    assert captions_in(folder) == {
        folder / "00.png": "photo, thing 0",
        folder / "01.png": "photo",
        folder / "02.png": "photo, cat",
        folder / "03.png": "photo, thing 3",
    }
    assert last_edit(journal) == TITLE
    found = undo_changes(journal)
    assert (found.restored, found.kept) == (4, ())
    assert contents(folder) == before
    assert last_edit(journal) == ""
    assert undo_changes(journal).restored == 0


def test_undo_keeps_what_was_changed_since(tmp_path):
    folder = make_images(tmp_path / "p", count=3)
    journal = tmp_path / "journal.json"
    changes = changes_by(prepended("photo"), captions_in(folder))
    apply_changes(changes, TITLE, journal)
    (folder / "01.txt").write_text("by hand")
    (folder / "02.txt").unlink()
    found = undo_changes(journal)
    assert found.restored == 1
    assert found.kept == (folder / "01.txt", folder / "02.txt")
    assert (folder / "00.txt").read_text() == "thing 0"
    assert (folder / "01.txt").read_text() == "by hand"


def test_a_failure_restores_all_captions(tmp_path, monkeypatch):
    folder = make_images(tmp_path / "p", count=3)
    (folder / "00.txt").unlink()
    before = contents(folder)
    journal = tmp_path / "journal.json"
    changes = changes_by(prepended("photo"), captions_in(folder))
    real = os.replace

    def refuse(source, target):
        if str(target).endswith("02.txt"):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match=r"02\.txt could not be written"):
        apply_changes(changes, TITLE, journal)
    assert contents(folder) == before
    assert last_edit(journal) == ""


def test_images_that_share_a_caption_file_are_edited_once(tmp_path):
    folder = make_images(tmp_path / "p", count=1)
    (folder / "00.jpg").write_bytes(b"")
    captions = {folder / "00.jpg": "thing 0", folder / "00.png": "thing 0"}
    changes = changes_by(prepended("photo"), captions)
    assert [change.image.name for change in changes] == ["00.jpg"]
    apply_changes(changes, TITLE, tmp_path / "journal.json")
    assert (folder / "00.txt").read_text() == "photo, thing 0\n"


def test_a_damaged_journal_undoes_nothing(tmp_path):
    journal = tmp_path / "journal.json"
    for text in ("", "{", json.dumps({"title": "x"}), "[]"):
        journal.write_text(text)
        assert last_edit(journal) == ""
        assert undo_changes(journal).restored == 0

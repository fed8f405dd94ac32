"""Caption files that are edited in two programs, and edits of many captions."""

from __future__ import annotations

from pathlib import Path

import pytest

from stiefel_lora.ui.controllers.bulk_edit import (
    EDIT_KINDS,
    BulkEdit,
    inputs_of,
    note_on_changes,
)
from stiefel_lora.ui.controllers.caption_journal import (
    edited_captions,
    title_of_last_edit,
    undo_last_edit,
)
from stiefel_lora.ui.controllers.caption_state import CaptionState
from stiefel_lora.ui.controllers.image_captions import Shelf
from stiefel_lora.ui.controllers.image_list import BARE, count_of_images, passes


def test_a_change_of_another_program_is_noticed_and_kept(tmp_path: Path):
    image = tmp_path / "a.png"
    state = CaptionState(image)
    assert state.read("from the name") == "from the name"
    state.write("mine")
    assert not state.is_foreign
    image.with_suffix(".txt").write_text("theirs", encoding="utf-8")
    assert state.is_foreign
    assert "a.txt" in state.question
    state.keep_other()
    state.write("mine again")
    assert not state.is_foreign
    assert (tmp_path / "a.txt.bak").read_text(encoding="utf-8") == "theirs"


def test_an_edit_of_many_captions_can_be_undone(tmp_path: Path):
    captions = {tmp_path / f"{name}.png": f"a {name}" for name in ("cat", "dog")}
    for image, text in captions.items():
        image.with_suffix(".txt").write_text(text, encoding="utf-8")
    edit = BulkEdit(kind=EDIT_KINDS[3], old="cat", new="tiger")
    changes = edit.changes(captions, ",")
    assert [change.after for change in changes] == ["a tiger"]
    assert note_on_changes(len(changes), 2) == "1 of 2 captions change."
    assert edited_captions(changes, edit.title).startswith("1 caption was changed.")
    assert title_of_last_edit() == edit.title
    assert (tmp_path / "cat.txt").read_text(encoding="utf-8").strip() == "a tiger"
    assert undo_last_edit() == "1 caption was restored."
    assert (tmp_path / "cat.txt").read_text(encoding="utf-8").strip() == "a cat"


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_an_edit_without_its_text_changes_nothing(kind, tmp_path: Path):
    assert BulkEdit(kind=kind).changes({tmp_path / "a.png": "a"}, ",") == []
    assert inputs_of(kind)


def test_images_without_a_caption_are_counted_and_filtered(tmp_path: Path):
    shelf = Shelf({tmp_path / "a.png": "", tmp_path / "b.png": "Red car"})
    assert count_of_images(shelf, 1) == "2 images, 1 without caption, 1 shown."
    assert passes(tmp_path / "a.png", "", None, BARE, "")
    assert not passes(tmp_path / "b.png", "Red car", None, BARE, "")
    assert passes(tmp_path / "b.png", "Red car", None, "All images", "red")

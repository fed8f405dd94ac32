from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stiefel_lora import DataError
from stiefel_lora.config import Concept
from stiefel_lora.data import scan_concepts


def write(folder: Path, name: str, caption: bytes | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"not decoded here")
    if caption is not None:
        (folder / name).with_suffix(".txt").write_bytes(caption)


def test_pictures_come_by_name_with_their_captions(tmp_path: Path) -> None:
    write(tmp_path, "b.PNG", b"  a bee \n")
    write(tmp_path, "a.jpeg", "\ufeffgr\u00fcn".encode())
    write(tmp_path, "notes.md")
    scan = scan_concepts([Concept(path=tmp_path, repeats=3)])
    assert [p.path.name for p in scan.pictures] == ["a.jpeg", "b.PNG"]
    assert [p.caption for p in scan.pictures] == ["gr\u00fcn", "a bee"]
    assert scan.pictures[0].concept.repeats == 3
    assert scan.without_caption == 0


def test_missing_caption_is_empty_and_counted(tmp_path: Path) -> None:
    write(tmp_path, "a.webp")
    write(tmp_path, "b.webp", b"")
    scan = scan_concepts([Concept(path=tmp_path)])
    assert [p.caption for p in scan.pictures] == ["", ""]
    assert scan.without_caption == 1


def test_caption_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a.png", b"caf\xe9")
    with pytest.raises(DataError) as error:
        scan_concepts([Concept(path=tmp_path)])
    assert str(error.value) == (
        f"The caption {tmp_path / 'a.txt'} is not UTF-8 (byte 3); save it as UTF-8 in "
        f"a text editor."
    )


def test_empty_folder_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        scan_concepts([Concept(path=tmp_path)])
    assert str(error.value) == (
        f"The folder {tmp_path} has no pictures; put pictures (.avif, .bmp, .jpeg, "
        f".jpg, .png, .webp) into it."
    )


def test_pictures_one_level_too_deep_are_hinted_at(tmp_path: Path) -> None:
    write(tmp_path / "inside", "a.png")
    with pytest.raises(DataError, match="folders inside it are not searched"):
        scan_concepts([Concept(path=tmp_path)])


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        scan_concepts([Concept(path=tmp_path / "gone")])
    assert str(error.value) == (
        f"There is no picture folder {tmp_path / 'gone'}; correct the path in concepts."
    )


def test_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    with pytest.raises(DataError, match="is a file; concepts lists folders"):
        scan_concepts([Concept(path=tmp_path / "a.png")])


def test_folders_inside_are_searched_when_asked(tmp_path: Path) -> None:
    write(tmp_path / "b", "a.png", b"inside")
    write(tmp_path, "c.png")
    scan = scan_concepts([Concept(path=tmp_path, include_subdirectories=True)])
    names = [p.path.relative_to(tmp_path).as_posix() for p in scan.pictures]
    assert names == ["b/a.png", "c.png"]
    assert scan.pictures[0].caption == "inside"


def test_masks_are_no_pictures(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    write(tmp_path, "a-masklabel.png")
    (picture,) = scan_concepts([Concept(path=tmp_path)]).pictures
    assert picture.path.name == "a.png"
    assert picture.mask == tmp_path / "a-masklabel.png"


def test_captions_in_metadata_give_way_to_text_files(tmp_path: Path) -> None:
    write(tmp_path, "a.png", b"from the text file")
    write(tmp_path, "b.png")
    write(tmp_path / "deep", "c.png")
    write(tmp_path, "d.png")
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "text": "one"}\n'
        '{"file_name": "b.png", "text": " two ", "extra": 3}\n\n'
        '{"file_name": "deep/c.png", "caption": "three"}\n',
        encoding="utf-8",
    )
    scan = scan_concepts([Concept(path=tmp_path, include_subdirectories=True)])
    found = {p.path.name: p.caption for p in scan.pictures}
    assert found == {
        "a.png": "from the text file",
        "b.png": "two",
        "c.png": "three",
        "d.png": "",
    }
    assert scan.without_caption == 1


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"file_name": "a.png"}', '{"text": "a"}', '{"file_name": 1}']
)
def test_damaged_line_of_metadata_is_named(tmp_path: Path, line: str) -> None:
    write(tmp_path, "a.png")
    path = tmp_path / "metadata.jsonl"
    path.write_text(f"\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        scan_concepts([Concept(path=tmp_path)])
    assert str(error.value) == (
        f"Line 2 of {path} is not what it should be; write for example "
        f'{{"file_name": "cat.jpg", "text": "a cat"}}.'
    )


def test_captions_from_file_names_and_from_one_file(tmp_path: Path) -> None:
    write(tmp_path, "a red cat.png", b"not this")
    (picture,) = scan_concepts(
        [Concept(path=tmp_path, prompt_source="filename")]
    ).pictures
    assert picture.caption == "a red cat"
    lines = tmp_path / "lines"
    lines.write_text("one\n\n two\n", encoding="utf-8")
    concept = Concept(path=tmp_path, prompt_source="concept", prompt_path=lines)
    assert scan_concepts([concept]).pictures[0].captions == ("one", "two")
    lines.write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="is empty; write a caption a line"):
        scan_concepts([concept])
    lines.unlink()
    with pytest.raises(DataError, match="correct prompt_path in concepts"):
        scan_concepts([concept])


def test_scan_needs_no_torch() -> None:
    code = (
        "import sys, stiefel_lora.data, stiefel_lora.training;"
        "sys.exit('torch' in sys.modules)"
    )
    path = str(Path(__file__).parents[2] / "modules")
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, check=False
    )
    assert done.returncode == 0

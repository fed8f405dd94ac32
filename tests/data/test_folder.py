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
    assert scan.pictures[0].repeats == 3
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

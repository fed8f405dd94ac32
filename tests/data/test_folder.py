from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stiefel_lora import DataError
from stiefel_lora.config import Concept, parse_config
from stiefel_lora.data import scan_all, scan_concepts
from stiefel_lora.data.captions import read_caption
from stiefel_lora.data.folder import scan_with_problems


def write(folder: Path, name: str, caption: bytes | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"not decoded here")
    if caption is not None:
        (folder / name).with_suffix(".txt").write_bytes(caption)


def test_images_come_by_name_with_their_captions(tmp_path: Path) -> None:
    write(tmp_path, "b.PNG", b"  a bee \n")
    write(tmp_path, "a.jpeg", "\ufeffgr\u00fcn".encode())
    write(tmp_path, "notes.md")
    scan = scan_concepts([Concept(path=tmp_path, repeats=3)])
    assert [p.path.name for p in scan.images] == ["a.jpeg", "b.PNG"]
    assert [p.caption for p in scan.images] == ["gr\u00fcn", "a bee"]
    assert scan.images[0].concept.repeats == 3
    assert scan.without_caption == 0


def test_missing_caption_is_empty_and_counted(tmp_path: Path) -> None:
    write(tmp_path, "a.webp")
    write(tmp_path, "b.webp", b"")
    scan = scan_concepts([Concept(path=tmp_path)])
    assert [p.caption for p in scan.images] == ["", ""]
    assert scan.without_caption == 1


def test_caption_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a.png", b"caf\xe9")
    with pytest.raises(DataError) as error:
        scan_concepts([Concept(path=tmp_path)])
    assert str(error.value) == (
        f"The caption {tmp_path / 'a.txt'} is not UTF-8 (byte 3). Save it as UTF-8 "
        "in a text editor."
    )


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffgr\u00fcn\n".encode("utf-16-le"),
        "\ufeffgr\u00fcn\r\n".encode("utf-16-be"),
        "\ufeffgr\u00fcn".encode("utf-32-le"),
        "\ufeffgr\u00fcn".encode("utf-32-be"),
        "\ufeffgr\u00fcn".encode(),
    ],
    ids=["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-8"],
)
def test_captions_are_read_by_their_byte_order_mark(
    tmp_path: Path, content: bytes
) -> None:
    write(tmp_path, "a.png", content)
    assert scan_concepts([Concept(path=tmp_path)]).images[0].caption == "gr\u00fcn"
    lines = tmp_path / "lines"
    lines.write_bytes(content)
    concept = Concept(path=tmp_path, prompt_source="concept", prompt_path=lines)
    assert scan_concepts([concept]).images[0].captions == ("gr\u00fcn",)


def test_metadata_in_utf_16_and_with_line_separators_inside_texts(
    tmp_path: Path,
) -> None:
    write(tmp_path, "a.png")
    (tmp_path / "metadata.jsonl").write_bytes(
        '\ufeff{"file_name": "a.png", "text": "one\u2028two"}\r\n'.encode("utf-16-le")
    )
    (image,) = scan_concepts([Concept(path=tmp_path)]).images
    assert image.caption == "one\u2028two"


def test_an_empty_caption_of_notepad_is_an_empty_caption(tmp_path: Path) -> None:
    write(tmp_path, "a.png", b"\xff\xfe")
    scan = scan_concepts([Concept(path=tmp_path)])
    assert (scan.images[0].caption, scan.without_caption) == ("", 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfea\0b", "damaged UTF-16 (byte 4) and not UTF-8"),
        (b"\xff\xfe\0\xd8a\0", "damaged UTF-16 (byte 2) and not UTF-8"),
        (
            "a cat".encode("utf-16-le"),
            "not plain text (null character at byte 1, as in UTF-16 without a byte "
            "order mark)",
        ),
        (b"\xef\xbb\xbfcaf\xe9", "not UTF-8 (byte 6)"),
    ],
    ids=["cut off", "half a pair", "utf-16 without its mark", "latin with a mark"],
)
def test_what_is_no_text_is_not_learned(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    write(tmp_path, "a.png", content)
    with pytest.raises(DataError) as error:
        scan_concepts([Concept(path=tmp_path)])
    assert str(error.value) == (
        f"The caption {tmp_path / 'a.txt'} is {reason}. Save it as UTF-8 in a text "
        "editor."
    )


def test_one_bad_file_hides_no_other(tmp_path: Path) -> None:
    """Captions, lines and folders of both sets, in one error."""
    for name in "abc":
        write(tmp_path / "cats", f"{name}.png", b"caf\xe9" if name != "b" else b"fine")
    write(tmp_path / "dogs", "a.png", b"\xff")
    (tmp_path / "dogs" / "metadata.jsonl").write_text("{\n{}\n[]\n" + "{\n" * 4)
    config = parse_config(
        {
            "concepts": ["cats", "gone", "dogs"],
            "validation_concepts": ["nowhere", "cats"],
        },
        folder=tmp_path,
    )
    with pytest.raises(DataError) as error:
        scan_all(config)
    found = str(error.value).splitlines()
    assert [line.split(". ")[0].replace(str(tmp_path), "") for line in found] == [
        "The caption /cats/a.txt is not UTF-8 (byte 3)",
        "The caption /cats/c.txt is not UTF-8 (byte 3)",
        "The image folder /gone does not exist",
        *(f"Line {n} of /dogs/metadata.jsonl is not valid" for n in range(1, 6)),
        "/dogs/metadata.jsonl has 2 more lines that are not valid.",
        "The caption /dogs/a.txt is not UTF-8 (byte 0)",
        "The image folder /nowhere does not exist",
    ]
    rest = scan_with_problems(config.concepts)
    assert [p.caption for p in rest.images] == ["", "fine", "", ""]


def test_very_many_bad_files_are_counted(tmp_path: Path) -> None:
    for number in range(25):
        write(tmp_path, f"{number:02}.png", b"\xff")
    with pytest.raises(DataError) as error:
        scan_concepts([Concept(path=tmp_path)])
    lines = str(error.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "5 more messages like these are not shown."


def test_an_empty_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        scan_concepts([Concept(path=tmp_path)])
    assert str(error.value) == (
        f"The folder {tmp_path} contains no images. Put images (.apng, .avif, "
        ".bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .pjp, .pjpeg, .png, .tif, .tiff, .webp) "
        "into it."
    )


def test_images_one_level_too_deep_are_hinted_at(tmp_path: Path) -> None:
    write(tmp_path / "inside", "a.png")
    with pytest.raises(DataError, match="Its subfolders are not searched"):
        scan_concepts([Concept(path=tmp_path)])


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        scan_concepts([Concept(path=tmp_path / "gone")])
    assert str(error.value) == (
        f"The image folder {tmp_path / 'gone'} does not exist. Correct the path in "
        "concepts."
    )


def test_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    with pytest.raises(DataError, match="is a file, but concepts must be folders"):
        scan_concepts([Concept(path=tmp_path / "a.png")])


def test_folders_inside_are_searched_when_asked(tmp_path: Path) -> None:
    write(tmp_path / "b", "a.png", b"inside")
    write(tmp_path, "c.png")
    scan = scan_concepts([Concept(path=tmp_path, include_subdirectories=True)])
    names = [p.path.relative_to(tmp_path).as_posix() for p in scan.images]
    assert names == ["b/a.png", "c.png"]
    assert scan.images[0].caption == "inside"


def test_masks_are_no_images(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    write(tmp_path, "a-masklabel.png")
    (image,) = scan_concepts([Concept(path=tmp_path)]).images
    assert image.path.name == "a.png"
    assert image.mask == tmp_path / "a-masklabel.png"


HIDDEN = [
    ".ipynb_checkpoints/a-checkpoint.png",
    "@eaDir/a.png/SYNOPHOTO_THUMB_XL.jpg",
    "__MACOSX/._a.png",
    "deep/.thumbnails/a.png",
    "deep/$RECYCLE.BIN/a.png",
    "deep/#Recycle/a.png",
    "RECYCLED/a.png",
    "Network Trash Folder/a.png",
    "deep/Temporary Items/a.png",
    "~snapshot/hourly.0/a.png",
    "@sharebin/a.png",
    "FOUND.000/a.png",
    "._a.png",
]


def test_hidden_folders_and_those_of_programs_are_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / ".hidden" / "cats"
    for name in ["a.png", "deep/b.png", "@home/c.png", *HIDDEN]:
        write((folder / name).parent, Path(name).name)
    scan = scan_concepts([Concept(path=folder, include_subdirectories=True)])
    found = [p.path.relative_to(folder).as_posix() for p in scan.images]
    assert found == ["@home/c.png", "a.png", "deep/b.png"]
    (remark,) = scan.remarks
    assert remark.startswith(f"13 hidden images in {folder} are skipped: ")
    assert ".ipynb_checkpoints (1)" in remark
    flat = scan_concepts([Concept(path=folder)])
    assert [p.path.name for p in flat.images] == ["a.png"]
    assert flat.remarks == (
        f"1 hidden image in {folder} is skipped: hidden files (1).",
    )


def test_formats_that_are_not_read_are_counted(tmp_path: Path) -> None:
    for name in ["a.png", "b.JXL", "c.jxl", "d.psd", "e.cr2", "notes.pdf", ".f.tga"]:
        write(tmp_path, name)
    write(tmp_path, "a-masklabel.tif")
    scan = scan_concepts([Concept(path=tmp_path)])
    assert [p.path.name for p in scan.images] == ["a.png"]
    assert scan.remarks == (
        f"{tmp_path}: images in unsupported formats are skipped: .jxl (2), .psd (1), "
        ".cr2 (1). Convert them to one of .apng, .avif, .bmp, .gif, .jfif, .jpe, "
        ".jpeg, .jpg, .pjp, .pjpeg, .png, .tif, .tiff, .webp.",
    )


def test_a_folder_of_formats_that_are_not_read_names_them(tmp_path: Path) -> None:
    write(tmp_path, "a.jxl")
    with pytest.raises(DataError, match=r"\(\.jxl \(1\)\) are not supported\. Conv"):
        scan_concepts([Concept(path=tmp_path)])


def test_a_folder_of_hidden_images_alone_is_explained(tmp_path: Path) -> None:
    write(tmp_path / "__MACOSX", "._a.png")
    with pytest.raises(DataError, match=r"is skipped \(__MACOSX\)"):
        scan_concepts([Concept(path=tmp_path, include_subdirectories=True)])


@pytest.mark.parametrize(
    "mask",
    [
        "a-masklabel.PNG",
        "a-MaskLabel.png",
        "a-masklabel.jpg",
        "A-MASKLABEL.WEBP",
        "a-masklabel.tif",
    ],
)
def test_masks_in_another_spelling(tmp_path: Path, mask: str) -> None:
    write(tmp_path, "a.jpg")
    write(tmp_path, mask)
    (image,) = scan_concepts([Concept(path=tmp_path)]).images
    assert image.mask == tmp_path / mask


@pytest.mark.parametrize(
    "name",
    [
        "-masklabel.png",
        "a-masklabel (1).png",
        "a-masklabel.png.png",
        "a-MaskLabel copy 2.jpg",
        "a-masklabel - Copy.png",
        "a-masklabel_2.png",
    ],
)
def test_masks_of_no_image_in_particular_are_not_learned(
    tmp_path: Path, name: str
) -> None:
    write(tmp_path, "a.png")
    write(tmp_path, name)
    scan = scan_concepts([Concept(path=tmp_path)])
    assert [(p.path.name, p.mask) for p in scan.images] == [("a.png", None)]
    assert scan.remarks == (
        f"1 mask has no matching image, for example {tmp_path / name}.",
    )
    (tmp_path / "a.png").unlink()
    with pytest.raises(
        DataError, match="Files named as masks are not used as training images"
    ):
        scan_concepts([Concept(path=tmp_path)])


@pytest.mark.parametrize("name", ["masklabel.png", "a-masklabels.png", "a-masklabel-b"])
def test_names_that_only_resemble_masks_are_images(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"{name}.png")
    assert len(scan_concepts([Concept(path=tmp_path)]).images) == 1


@pytest.mark.parametrize("name", ["a-condlabel.png", "a-CondLabel.JPG"])
def test_conditioning_images_are_neither_images_nor_masks(
    tmp_path: Path, name: str
) -> None:
    write(tmp_path, "a.png")
    write(tmp_path, name)
    scan = scan_concepts([Concept(path=tmp_path)])
    assert [(p.path.name, p.mask) for p in scan.images] == [("a.png", None)]
    assert not scan.remarks


def test_masks_go_to_their_own_image_and_the_rest_is_reported(tmp_path: Path) -> None:
    names = ["Cat.png", "cat.png", "dog.png", "a-masklabel-b.png"]
    names += ["cat-masklabel.png", "dog-masklabel.png", "dog-masklabel.jpg"]
    names += ["cow-masklabel.png", "deep/cat-masklabel.png"]
    for name in names:
        write((tmp_path / name).parent, Path(name).name)
    scan = scan_concepts([Concept(path=tmp_path, include_subdirectories=True)])
    masks = {p.path.name: p.mask and p.mask.name for p in scan.images}
    assert masks == {
        "Cat.png": None,
        "a-masklabel-b.png": None,
        "cat.png": "cat-masklabel.png",
        "dog.png": "dog-masklabel.png",
    }
    assert scan.remarks == (
        f"{tmp_path / 'dog.png'} has more than one mask. dog-masklabel.png is used, "
        "and dog-masklabel.jpg is ignored.",
        "2 masks have no matching image, for example "
        f"{tmp_path / 'cow-masklabel.png'}.",
    )


def link(place: Path, target: Path | str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def test_links_to_nothing_and_linked_folders_are_counted(tmp_path: Path) -> None:
    folder, other = tmp_path / "cats", tmp_path / "more"
    write(folder, "a.png", b"a cat")
    write(other, "z.png", b"another")
    link(folder / "linked.png", other / "z.png")
    link(folder / "b.png", ".git/annex/objects/b.png")
    link(folder / "deep" / "a-masklabel.png", "nowhere")
    link(folder / "deep" / "unmounted", "/nowhere/at/all")
    link(folder / "loop.jpg", "loop.jpg")
    link(folder / ".hidden.png", "nowhere")
    link(folder / "more", other)
    scan = scan_concepts([Concept(path=folder, include_subdirectories=True)])
    assert [p.path.name for p in scan.images] == ["a.png", "linked.png"]
    assert scan.remarks == (
        f"{folder}: 4 broken symbolic links are skipped (b.png, "
        f"{Path('deep', 'a-masklabel.png')}, {Path('deep', 'unmounted')} ...). "
        "Restore or correct the link targets.",
        f"{folder}: 1 subfolder is a symbolic link and is not searched (more). Add "
        "the link targets as separate concepts.",
    )
    flat = scan_concepts([Concept(path=folder)])
    assert len(flat.remarks) == 1
    assert "2 broken symbolic links are skipped" in flat.remarks[0]


def test_folders_of_links_alone_say_so(tmp_path: Path) -> None:
    annex, linked = tmp_path / "annex", tmp_path / "linked"
    link(annex / "a.png", ".git/annex/objects/a")
    with pytest.raises(DataError, match="1 broken symbolic link was found"):
        scan_concepts([Concept(path=annex)])
    write(tmp_path / "real", "a.png")
    link(linked / "inside", tmp_path / "real")
    with pytest.raises(DataError, match="that are symbolic links are not searched"):
        scan_concepts([Concept(path=linked, include_subdirectories=True)])


def test_captions_in_another_case_are_read(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path, f"{name}.png")
    (tmp_path / "a.TXT").write_text("loud")
    (tmp_path / "b.Txt").write_text("odd")
    (tmp_path / "c.TXT").write_text("loud")
    (tmp_path / "c.txt").write_text("usual")
    scan = scan_concepts([Concept(path=tmp_path)])
    assert [p.caption for p in scan.images] == ["loud", "odd", "usual"]
    assert not scan.remarks
    assert not scan.uncaptioned
    assert read_caption(tmp_path / "a.png") == "loud"
    assert read_caption(tmp_path / "nobody.png") is None
    assert read_caption(tmp_path / "nowhere" / "a.png") is None


def test_texts_with_other_endings_are_hinted_at_once(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d", "e", "f"):
        write(tmp_path, f"{name}.png")
    texts = ["a.caption", "b.Caption", "c.png.txt", "d.txt.txt", "e.json", "e.txt"]
    for name in (*texts, "notes.md"):
        (tmp_path / name).write_text("a cat")
    scan = scan_concepts([Concept(path=tmp_path)])
    assert [path.stem for path in scan.uncaptioned] == ["a", "b", "c", "d", "f"]
    assert scan.remarks == (
        f"{tmp_path}: 4 images without a caption have a text file with a similar "
        "name, which is not used: .caption (2), .png.txt (1), .txt.txt (1). Rename "
        "the caption of a.png to a.txt.",
    )


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
    found = {p.path.name: p.caption for p in scan.images}
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
        f"Line 2 of {path} is not valid. Use for example "
        f'{{"file_name": "cat.jpg", "text": "a cat"}}.'
    )


def test_captions_from_file_names_and_from_one_file(tmp_path: Path) -> None:
    write(tmp_path, "a red cat.png", b"not this")
    (image,) = scan_concepts([Concept(path=tmp_path, prompt_source="filename")]).images
    assert image.caption == "a red cat"
    lines = tmp_path / "lines"
    lines.write_text("one\n\n two\n", encoding="utf-8")
    concept = Concept(path=tmp_path, prompt_source="concept", prompt_path=lines)
    assert scan_concepts([concept]).images[0].captions == ("one", "two")
    lines.write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"is empty\. Add one caption per line"):
        scan_concepts([concept])
    lines.unlink()
    with pytest.raises(DataError, match="Correct prompt_path in concepts"):
        scan_concepts([concept])


@pytest.mark.parametrize("text", ["x\\ud800y", "x\\u0000y"])
def test_characters_in_metadata_that_are_no_text(tmp_path: Path, text: str) -> None:
    write(tmp_path, "a.png")
    for line in (f'"file_name": "a.png", "text": "{text}"', f'"file_name": "{text}"'):
        line = f'{{{line}, "caption": "a cat"}}'
        (tmp_path / "metadata.jsonl").write_text(line)
        with pytest.raises(DataError, match="Line 1 of"):
            scan_concepts([Concept(path=tmp_path)])


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux alone")
def test_a_name_that_is_not_utf8_is_an_image_and_no_caption(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes(b"not decoded here")
    assert [p.path for p in scan_concepts([Concept(path=tmp_path)]).images] == [path]
    named = Concept(path=tmp_path, prompt_source="filename")
    with pytest.raises(DataError) as error:
        scan_concepts([named])
    assert str(error.value) == (
        f"The file name of the image {str(path)!a} is not valid UTF-8 and cannot be "
        "used as a caption. Rename the file."
    )


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

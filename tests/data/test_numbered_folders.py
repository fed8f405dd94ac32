"""Subfolders with repeats in their names, as in sd-scripts."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from helpers.runs import make_images
from stiefel_lora import DataError
from stiefel_lora.config import Concept, parse_config
from stiefel_lora.data import scan_all, scan_concepts
from stiefel_lora.data.balance import rates_of
from stiefel_lora.data.folder_report import report_on
from stiefel_lora.training.checkpointing.image_changes import image_changes, images_of
from stiefel_lora.ui.controllers.image_captions import open_shelf, places_of


def bare_images(folder: Path, count: int) -> Path:
    """Images without captions."""
    make_images(folder, count=count)
    for path in folder.glob("*.txt"):
        path.unlink()
    return folder


def numbered(folder: Path, **more: Any) -> Concept:
    return Concept(path=folder, subfolder_repeats=True, **more)


def folder_of(root: Path) -> Path:
    make_images(root / "10_cat", count=2)
    (root / "10_cat" / "01.txt").unlink()
    bare_images(root / "3_sks_big dog", 3)
    make_images(root / "notes", count=1)
    make_images(root / "0_old", count=1)
    (root / "4_empty").mkdir()
    make_images(root / "2_deep" / "inside", count=1)
    make_images(root, count=2)
    return root


def test_each_subfolder_is_a_concept_with_its_repeats(tmp_path: Path) -> None:
    scan = scan_concepts([numbered(folder_of(tmp_path))])
    found = [
        (image.path.parent.name, image.concept.repeats, image.caption)
        for image in scan.images
    ]
    assert found == [
        ("10_cat", 10, "thing 0"),
        ("10_cat", 10, "cat"),
        *[("3_sks_big dog", 3, "sks_big dog")] * 3,
    ]
    assert rates_of(scan.images) == [10, 10, 3, 3, 3]
    assert not scan.uncaptioned
    assert scan.defaulted == {i.path for i in scan.images[1:]}
    assert len({id(image.concept) for image in scan.images}) == 2


def test_what_is_used_and_skipped_is_stated_once(tmp_path: Path) -> None:
    concept = numbered(folder_of(tmp_path))
    config = parse_config({"concepts": [concept.model_dump(mode="json")]})
    used = (
        f"{tmp_path}: subfolders with repeats: "
        "10_cat (10 repeats, 2 images, caption of 1 of them: 'cat'), "
        "3_sks_big dog (3 repeats, 3 images, caption of 3 of them: 'sks_big dog')."
    )
    skipped = (
        f"{tmp_path}: skipped because of subfolder_repeats: 0_old (0 repeats), "
        "notes (no number and _ at the beginning), 2_deep (no images), "
        "4_empty (no images), 2 images that are not in a subfolder."
    )
    for messages in (report_on(config).messages(), scan_all(config)[0].remarks):
        assert [text for text in messages if "subfolder" in text] == [used, skipped]


def test_the_default_caption_and_deeper_folders(tmp_path: Path) -> None:
    concept = numbered(
        folder_of(tmp_path), default_caption="an animal", include_subdirectories=True
    )
    scan = scan_concepts([concept])
    assert [image.caption for image in scan.images if image.path in scan.defaulted] == [
        "an animal"
    ] * 4
    assert [image.concept.repeats for image in scan.images] == [10, 10, 2, 3, 3, 3]
    plain = scan_concepts(
        [Concept(path=tmp_path / "3_sks_big dog", default_caption="dog")]
    )
    assert {image.caption for image in plain.images} == {"dog"}
    folder = tmp_path / "3_sks_big dog"
    assert plain.remarks == (
        f"{folder}: 3 images without a caption get the caption 'dog'.",
    )


def test_regularization_subfolders_are_used_as_often_as_the_others(
    tmp_path: Path,
) -> None:
    make_images(tmp_path / "own" / "5_x", count=4)
    for name, count in (("1_a", 2), ("2_b", 3)):
        make_images(tmp_path / "reg" / name, count=count)
    concepts = [numbered(tmp_path / "own"), numbered(tmp_path / "reg", is_reg=True)]
    rates = rates_of(scan_concepts(concepts).images)
    # 20 uses; 2 * 1 + 3 * 2 = 8 by their repeats, and 12 / 5 more for each image.
    more = Fraction(12, 5)
    assert rates == [5] * 4 + [1 + more] * 2 + [2 + more] * 3
    assert sum(rates[4:]) == sum(rates[:4])
    (tmp_path / "reg" / "2_b").rename(tmp_path / "reg" / "20_b")
    rates = rates_of(scan_concepts(concepts).images)
    assert sum(rates[4:]) == sum(rates[:4])
    assert rates[6] == 20 * rates[4]
    alone = rates_of(scan_concepts(concepts[1:]).images)
    assert alone == [1, 1, 20, 20, 20]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["cat"], "Rename its subfolders, or disable subfolder_repeats."),
        (["20250131_cat"], "stands for 20,250,131 repeats, but at most 10,000"),
        ([], "contains no subfolder with images and a name such as 10_cat."),
    ],
)
def test_a_folder_without_numbers_is_an_error(
    tmp_path: Path, names: list[str], problem: str
) -> None:
    for name in names:
        make_images(tmp_path / name, count=1)
    with pytest.raises(DataError) as error:
        scan_concepts([numbered(tmp_path)])
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_a_subfolder_itself_is_named(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "10_cat", count=1)
    with pytest.raises(DataError, match="Use its parent folder"):
        scan_concepts([numbered(folder)])
    with pytest.raises(DataError, match="does not exist"):
        scan_concepts([numbered(tmp_path / "gone")])


def test_a_folder_of_subfolders_with_repeats_is_recognized(tmp_path: Path) -> None:
    make_images(tmp_path / "10_cat", count=1)
    with pytest.raises(DataError) as error:
        scan_concepts([Concept(path=tmp_path)])
    assert "Set subfolder_repeats" in str(error.value)
    assert "(10_cat)" in str(error.value)
    (tmp_path / "10_cat").rename(tmp_path / "cat_10")
    with pytest.raises(DataError, match="Set include_subdirectories"):
        scan_concepts([Concept(path=tmp_path)])


def test_a_linked_subfolder_is_used(tmp_path: Path) -> None:
    target = make_images(tmp_path / "elsewhere", count=2)
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "7_x").symlink_to(target, target_is_directory=True)
    scan = scan_concepts([numbered(tmp_path / "all")])
    assert rates_of(scan.images) == [7, 7]


def test_a_renamed_subfolder_is_a_change_of_the_images(tmp_path: Path) -> None:
    make_images(tmp_path / "10_cat", count=2)
    before = scan_concepts([numbered(tmp_path)])
    (tmp_path / "10_cat").rename(tmp_path / "20_cat")
    now = scan_concepts([numbered(tmp_path)])
    none = scan_concepts([])
    (text,) = image_changes(images_of(before, none), images_of(now, none), 3)
    assert "2 added (20_cat/00.png, 20_cat/01.png); 2 removed" in text


def test_the_window_edits_captions_of_files_only(tmp_path: Path) -> None:
    concept = numbered(folder_of(tmp_path))
    shelf = open_shelf(concept)
    assert list(shelf.captions.values()) == ["thing 0", "", "", "", ""]
    assert shelf.images[tmp_path / "10_cat" / "01.png"].caption == "cat"
    assert tmp_path / "10_cat" in places_of([concept])

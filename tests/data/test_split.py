"""validation_split: training images set aside, by name and seed alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from helpers.jobs import ready_config
from stiefel_lora import ConfigError, DataError
from stiefel_lora.config import TrainConfig, parse_config
from stiefel_lora.data import scan_all
from stiefel_lora.jobs.plan import make_plans


def folder(root: Path, name: str, count: int) -> Path:
    made = root / name
    made.mkdir()
    for number in range(count):
        # Other images in every folder: copies of one image count once.
        color = (number, sum(name.encode()) % 256, 0)
        Image.new("RGB", (32, 32), color).save(made / f"{number:03}.png")
        (made / f"{number:03}.txt").write_text("a square", "utf-8")
    return made


def config(share: float, *concepts: object, **more: object) -> TrainConfig:
    return parse_config(
        {
            "concepts": list(concepts),
            "validation_split": share,
            "validate_every": 5,
            **more,
        }
    )


def names(scan) -> set[str]:
    return {f"{image.path.parent.name}/{image.path.name}" for image in scan.images}


def test_a_share_of_each_concept_is_set_aside_and_reported(tmp_path):
    large, small = folder(tmp_path, "large", 40), folder(tmp_path, "small", 3)
    train, aside = scan_all(config(0.1, str(large), str(small)))
    assert len(train.images) + len(aside.images) == 43
    assert not names(train) & names(aside)
    by_folder = sorted(name.split("/")[0] for name in names(aside))
    assert by_folder == ["large"] * 4 + ["small"]
    assert f"4 of 40 images in {large} are used for validation" in " ".join(
        train.remarks
    )
    assert f"1 of 3 images in {small} is used for validation" in " ".join(train.remarks)


def test_new_images_leave_old_ones_where_they_are(tmp_path):
    images = folder(tmp_path, "cats", 20)
    before = names(scan_all(config(0.5, str(images)))[1])
    again = names(scan_all(config(0.5, str(images)))[1])
    assert before == again
    Image.new("RGB", (32, 32)).save(images / "new.png")
    after = names(scan_all(config(0.5, str(images)))[1])
    # Of 21 images 10 are set aside, as before: one may have made room for the new one.
    assert len(before & after) >= 9


def test_the_seed_chooses_others(tmp_path):
    images = folder(tmp_path, "cats", 40)
    found = [
        names(scan_all(config(0.2, str(images), validation_seed=seed))[1])
        for seed in (0, 1)
    ]
    assert found[0] != found[1]


def test_regularization_images_and_own_validation_folders_stay_whole(tmp_path):
    images, prior = folder(tmp_path, "cats", 10), folder(tmp_path, "prior", 10)
    own = folder(tmp_path, "own", 2)
    train, aside = scan_all(
        config(
            0.5,
            str(images),
            {"path": str(prior), "is_reg": True},
            validation_concepts=[str(own)],
        )
    )
    assert sum(name.startswith("prior/") for name in names(train)) == 10
    assert {name for name in names(aside) if name.startswith("own/")} == names(
        aside
    ) - {name for name in names(aside) if name.startswith("cats/")}
    assert len(aside.images) == 2 + 5


def test_an_image_of_two_concepts_is_never_on_both_sides(tmp_path):
    outer = folder(tmp_path, "all", 12)
    inner = outer / "cats"
    inner.mkdir()
    for path in list(outer.glob("*.*"))[:16]:
        path.rename(inner / path.name)
    everything = {"path": str(outer), "include_subdirectories": True}
    train, aside = scan_all(config(0.3, everything, str(inner)))
    assert not {i.path for i in train.images} & {i.path for i in aside.images}


def test_one_image_cannot_be_split(tmp_path):
    images = folder(tmp_path, "single", 1)
    with pytest.raises(DataError, match="has only one image, which cannot be split"):
        scan_all(config(0.1, str(images)))


def test_uncaptioned_images_are_counted_on_their_side(tmp_path):
    images = folder(tmp_path, "cats", 10)
    for path in images.glob("*.txt"):
        path.unlink()
    train, aside = scan_all(config(0.3, str(images)))
    assert (train.without_caption, aside.without_caption) == (7, 3)


def test_a_split_that_nothing_measures_is_refused():
    with pytest.raises(
        ConfigError, match=r"validation_split: 0\.1 has no effect if validate_every"
    ):
        parse_config({"validation_split": 0.1})


def test_without_it_nothing_changes(tmp_path):
    images = folder(tmp_path, "cats", 4)
    train, aside = scan_all(parse_config({"concepts": str(images)}))
    assert (len(train.images), len(aside.images)) == (4, 0)
    assert train.remarks == ()


def contents(scan) -> set[bytes]:
    return {image.path.read_bytes() for image in scan.images}


def test_copies_and_links_of_an_image_are_on_one_side(tmp_path):
    images, linked = folder(tmp_path, "cats", 10), tmp_path / "linked"
    linked.mkdir()
    for path in images.glob("*.png"):
        (linked / f"link-{path.name}").symlink_to(path)
        (images / f"copy-{path.name}").write_bytes(path.read_bytes())
    for seed in range(3):
        split = config(0.5, str(images), str(linked), validation_seed=seed)
        train, aside = scan_all(split)
        assert not contents(train) & contents(aside)
        # Each once, so that it counts once in the loss.
        assert len(aside.images) == len(contents(aside)) == 5
        assert len(train.images) == 15


def test_a_folder_and_one_inside_it_leave_images_to_train_on(tmp_path):
    outer = tmp_path / "all"
    outer.mkdir()
    inner = folder(outer, "cats", 2)
    everything = {"path": str(outer), "include_subdirectories": True}
    for seed in range(4):
        split = config(0.5, everything, str(inner), validation_seed=seed)
        train, aside = scan_all(split)
        assert (len(train.images), len(aside.images)) == (2, 1)


def test_a_regularization_image_is_never_in_the_validation_set(tmp_path):
    images = folder(tmp_path, "cats", 10)
    train, aside = scan_all(
        config(0.5, str(images), {"path": str(images), "is_reg": True})
    )
    assert len(aside.images) == 5
    assert not any(image.concept.is_reg for image in aside.images)
    assert not contents(train) & contents(aside)


def test_regularization_images_alone_and_copies_alone_cannot_be_split(tmp_path):
    images = folder(tmp_path, "cats", 1)
    (images / "copy.png").write_bytes((images / "000.png").read_bytes())
    with pytest.raises(DataError, match="copies count once"):
        scan_all(config(0.5, str(images)))
    with pytest.raises(DataError, match="all concepts are regularization images"):
        scan_all(config(0.5, {"path": str(images), "is_reg": True}))


def test_a_batch_refuses_a_folder_that_cannot_be_split_before_any_training(tmp_path):
    path = ready_config(tmp_path)
    settings = [f"concepts={json.dumps([str(folder(tmp_path, 'single', 1))])}"]
    assert make_plans([str(path)], settings)
    settings += ["validation_split=0.5", "validate_every=5"]
    with pytest.raises(ConfigError, match="has only one image, which cannot be split"):
        make_plans([str(path)], settings)

"""Images that are trained at several resolutions."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stiefel_lora.config import TrainConfig, parse_config
from stiefel_lora.data import DataOrder, scan_all
from stiefel_lora.data.balance import rates_of, rates_of_entries
from stiefel_lora.data.buckets import Buckets, buckets_of
from stiefel_lora.data.entry import Entry
from stiefel_lora.data.epoch_length import images_per_epoch
from stiefel_lora.data.folder_report import report_on
from stiefel_lora.memory import estimate_memory, usual_settings
from stiefel_lora.ui.controllers.survey import survey


def images(folder: Path, *sizes: tuple[int, int]) -> Path:
    folder.mkdir(parents=True)
    for number, (width, height) in enumerate(sizes):
        pixels = np.full((height, width, 3), number, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("thing")
    return folder


def config_of(root: Path, *concepts: dict[str, Any], **more: Any) -> TrainConfig:
    data = {"concepts": list(concepts), "resolution": 64, "bucket_step": 16}
    return parse_config({**data, "base_model_name": "a/b", **more})


def test_an_image_has_a_bucket_of_each_resolution() -> None:
    buckets = Buckets(128, enabled=True, step=16, extra=(64, 256))
    assert buckets.sizes_for((512, 512)) == ((128, 128), (64, 64), (256, 256))
    # Of the folder instead.
    assert buckets.sizes_for((512, 512), (256, 96)) == ((256, 256), (96, 96))
    for side, size in zip((128, 64, 256), buckets.sizes_for((700, 400)), strict=True):
        assert size == Buckets(side, enabled=True, step=16).size_for((700, 400))
    # Too small for two of them: its own size once.
    assert buckets.sizes_for((100, 100)) == ((96, 96), (64, 64))
    assert Buckets(128).sizes_for((512, 300)) == ((128, 128),)


def test_uses_are_shared_equally(tmp_path: Path) -> None:
    own = images(tmp_path / "own", (256, 256), (256, 128), (80, 80))
    reg = images(tmp_path / "reg", (256, 256), (256, 256))
    config = config_of(
        tmp_path,
        {"path": str(own), "repeats": 3},
        {"path": str(reg), "is_reg": True, "resolutions": [64]},
        extra_resolutions=[96, 128],
    )
    report = report_on(config)
    assert report.per_pass == 18
    assert [entry.image.path.name for entry in report.entries] == [
        *["0.png"] * 3,
        *["1.png"] * 3,
        *["2.png"] * 2,
        *["0.png", "1.png"],
    ]
    rates = rates_of_entries(report.entries)
    assert rates == [1] * 6 + [Fraction(3, 2)] * 2 + [Fraction(9, 2)] * 2
    # The length of an epoch does not depend on the number of resolutions.
    train, _ = scan_all(config)
    assert images_per_epoch(config, train.images) == 18
    alone = config.model_copy(update={"extra_resolutions": ()})
    assert images_per_epoch(alone, train.images) == 18
    assert report.buckets[(64, 64)] == 4
    assert report.buckets[(80, 80)] == 1


def test_each_image_is_used_equally_often_at_each(tmp_path: Path) -> None:
    own = images(tmp_path / "own", *[(256, 256)] * 5)
    config = config_of(tmp_path, {"path": str(own), "resolutions": [64, 128]})
    entries = report_on(config).entries
    order = DataOrder(rates_of_entries(entries), 0, [entry.size for entry in entries])
    used: dict[tuple[str, tuple[int, int]], int] = {}
    # 8 epochs of 5 images, in batches of images of the same size.
    for place in range(0, 40, 2):
        batch = [entries[visit.image] for visit in order.batch(place, 2)]
        assert len({entry.size for entry in batch}) == 1
        for entry in batch:
            key = (entry.image.path.name, entry.size)
            used[key] = used.get(key, 0) + 1
    assert len(used) == 10
    assert set(used.values()) == {4}


def test_one_resolution_is_as_before(tmp_path: Path) -> None:
    own = images(tmp_path / "own", (256, 256), (256, 128))
    config = config_of(tmp_path, {"path": str(own), "balancing": 0.3})
    train, _ = scan_all(config)
    buckets = buckets_of(config)
    entries = [
        Entry(image, (256, 256), buckets.size_for((256, 256))) for image in train.images
    ]
    assert rates_of_entries(entries) == rates_of(train.images)
    (concept,) = config.concepts
    same = concept.model_copy(update={"resolutions": (64,)})
    assert report_on(config.model_copy(update={"concepts": (same,)})).buckets == (
        report_on(config).buckets
    )


def test_memory_is_that_of_the_highest_resolution(tmp_path: Path) -> None:
    settings = usual_settings("sdxl")

    def needed(**more: Any) -> int:
        concept = {"path": "x", **more.pop("concept", {})}
        config = config_of(tmp_path, concept, **{"resolution": 512, **more})
        return estimate_memory(config, settings).total

    high = needed(resolution=1024)
    assert needed() < high
    assert needed(extra_resolutions=[768, 1024]) == high
    assert needed(concept={"resolutions": [512, 1024]}) == high
    off = {"resolutions": [1024], "enabled": False}
    assert needed(concept=off) == needed()


def test_the_window_shows_all_buckets(tmp_path: Path) -> None:
    own = images(tmp_path / "own", (256, 256), (256, 256))
    config = config_of(tmp_path, {"path": str(own), "resolutions": [64, 128]})
    found = survey(config)
    assert found.buckets == {(64, 64): 2, (128, 128): 2}
    assert not found.problems or all("duplicate" in p.message for p in found.problems)


@pytest.mark.parametrize("value", [512, [20], [513], ["512"]])
def test_resolutions_are_sides(value: Any) -> None:
    from stiefel_lora import ConfigError

    for data in (
        {"extra_resolutions": value},
        {"concepts": [{"path": "a", "resolutions": value}]},
    ):
        with pytest.raises(ConfigError):
            parse_config(data)

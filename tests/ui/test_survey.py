from __future__ import annotations

import pytest
from PIL import Image

from helpers.runs import make_images
from stiefel_lora.config import parse_config
from stiefel_lora.ui.controllers.survey import survey


@pytest.fixture
def folder(tmp_path):
    found = make_images(tmp_path / "Bilder 猫", count=3, side=256)
    Image.new("RGB", (512, 128)).save(found / "wide.png")
    (found / "broken.jpg").write_bytes(b"no picture")
    (found / "broken.txt").write_text("a caption")
    return found


def look(folder, **settings):
    config = {"resolution": 256, "concepts": [str(folder)], **settings}
    return survey(parse_config(config))


def test_images_are_counted_by_bucket(folder):
    found = look(folder)
    assert found.buckets == {(256, 256): 3, (512, 128): 1}
    assert "in 2 buckets" in found.summary
    assert look(folder, aspect_ratio_bucketing=False).buckets == {(256, 256): 4}


def test_what_is_wrong_is_named_by_file(folder):
    problems = {entry.path.name: entry.message for entry in look(folder).problems}
    assert problems.keys() == {"broken.jpg", "wide.png"}
    assert "skipped" in problems["broken.jpg"]
    assert problems["wide.png"] == "no caption"


def test_validation_images_are_included(folder, tmp_path):
    held_out = make_images(tmp_path / "v", side=256)
    found = look(folder, validation_concepts=[str(held_out)])
    assert sum(found.buckets.values()) == 8
    assert "Validation: 4 images" in found.summary


def test_a_missing_folder_is_a_problem(tmp_path):
    found = look(tmp_path / "nowhere")
    assert "does not exist" in found.problems[0].message
    assert found.summary == found.problems[0].message

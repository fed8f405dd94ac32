from __future__ import annotations

import pytest
from PIL import Image

from helpers.runs import make_pictures
from stiefel_lora.config import Concept, parse_config
from stiefel_lora.ui.controllers.survey import survey


@pytest.fixture
def folder(tmp_path):
    found = make_pictures(tmp_path / "Bilder 猫", count=3, side=256)
    Image.new("RGB", (512, 128)).save(found / "wide.png")
    (found / "broken.jpg").write_bytes(b"no picture")
    (found / "broken.txt").write_text("a caption")
    return found


def concept(path):
    return Concept(path=path)


def look(folders, **settings):
    config = parse_config({"resolution": 256, **settings})
    return survey(map(concept, folders), config, lambda: True)


def test_pictures_are_counted_by_the_size_they_are_cut_to(folder):
    found = look([folder])
    assert (found.pictures, sum(found.buckets.values())) == (4, 4)
    assert found.buckets[(256, 256)] == 3
    assert found.buckets[(512, 128)] == 1
    assert not found.enlarged
    assert found.summary == "4 pictures in 2 sizes. 2 problems."


def test_what_is_wrong_is_named_by_file(folder):
    problems = {entry.path.name: entry.sentence for entry in look([folder]).problems}
    assert problems.keys() == {"broken.jpg", "wide.png"}
    assert "can not be used" in problems["broken.jpg"]
    assert problems["wide.png"] == "no caption"


def test_pictures_that_must_grow_are_counted(folder):
    found = look([folder], aspect_ratio_bucketing=False)
    assert found.buckets == {(256, 256): 4}
    assert found.enlarged == 1


def test_a_missing_folder_is_a_problem_and_an_unwanted_survey_ends(folder, tmp_path):
    found = look([tmp_path / "nowhere"])
    assert "no picture folder" in found.problems[0].sentence
    assert survey([concept(folder)], parse_config({}), lambda: False) is None

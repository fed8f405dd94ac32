from __future__ import annotations

import dataclasses

import pytest

from helpers.runs import make_images
from stiefel_lora.config import Concept, SettingsError, check_complete, parse_config
from stiefel_lora.config.checks import missing_paths, remarks
from stiefel_lora.data import scan_all, scan_concepts
from stiefel_lora.data.folder_report import report_on
from stiefel_lora.ui.controllers.findings import examine


def test_a_disabled_folder_is_neither_read_nor_missed(tmp_path):
    cats = make_images(tmp_path / "cats", count=2)
    concepts = [
        {"path": str(tmp_path / "nowhere"), "enabled": False},
        {"path": str(cats)},
    ]
    config = parse_config({"concepts": concepts, "base_model_name": "a/b"})
    assert not missing_paths(config)
    train, validation = scan_all(config)
    assert [image.path for image in train.images] == [cats / "00.png", cats / "01.png"]
    assert not validation.images
    remark = f"The folder {tmp_path / 'nowhere'} is disabled and not used."
    assert remark in train.remarks
    report = report_on(config)
    assert report.images == 2
    assert remark in report.messages()


def test_a_disabled_validation_folder_counts_as_none(tmp_path):
    cats = make_images(tmp_path / "cats", count=2)
    entry = {"path": str(cats), "enabled": False}
    data = {"concepts": str(cats), "validation_concepts": [entry], "validate_every": 5}
    config = parse_config(data)
    assert not config.has_validation_images
    keys = [violation.key for violation in remarks(config)]
    assert "validate_every" in keys
    # It is one of the training folders, but measures nothing.
    assert "validation_concepts.0" not in keys


def test_all_folders_disabled_is_reported_before_a_run(tmp_path):
    entry = {"path": str(make_images(tmp_path / "cats", count=2)), "enabled": False}
    config = parse_config({"concepts": [entry], "base_model_name": "a/b"})
    with pytest.raises(SettingsError, match="concepts: all folders are disabled"):
        check_complete(config)
    assert "concepts" in examine(config.model_dump(mode="json")).missing
    assert report_on(config).messages()[0] == "0 images, 0 per epoch, in 0 buckets."


def test_an_enabled_folder_is_scanned_as_before(tmp_path):
    folder = make_images(tmp_path / "cats", count=3)
    plain, given = Concept(path=folder), Concept(path=folder, enabled=True)
    assert plain == given
    found = scan_concepts([plain])
    assert len(found.images) == 3
    assert not dataclasses.replace(found).remarks

"""Options of datasets of sd-scripts, which are the same for all concepts here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stiefel_lora.config import parse_config
from stiefel_lora.config.importing.from_sd_scripts import from_sd_scripts

_SUBSETS = [{"image_dir": "a"}]
BUCKETS = {"enable_bucket": True}


# General settings, options of two datasets, and the options that the second one has
# otherwise.
CASES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], set[str]]] = [
    ({}, {}, {"batch_size": 3}, {"batch_size"}),
    ({}, {"batch_size": 3}, {}, {"batch_size"}),
    ({"batch_size": 3}, {}, {"batch_size": 3}, set()),
    ({"batch_size": 2}, {"batch_size": 3}, {}, {"batch_size"}),
    ({}, {}, {"batch_size": 4}, {"batch_size"}),
    ({}, {"batch_size": 1}, {}, set()),
    ({}, BUCKETS, {}, {"enable_bucket"}),
    ({}, {}, BUCKETS, {"enable_bucket"}),
    (BUCKETS, {}, {"bucket_reso_steps": 32}, {"bucket_reso_steps"}),
    (BUCKETS, {"max_bucket_reso": 2048}, {}, {"max_bucket_reso"}),
    (BUCKETS, {"min_bucket_reso": 256}, {}, set()),
    ({}, {}, {"min_bucket_reso": 128}, set()),
    (BUCKETS, {}, {"bucket_no_upscale": True}, {"bucket_no_upscale"}),
    ({}, {"validation_split": 0.1}, {}, {"validation_split"}),
    ({}, {"debug_dataset": False}, {"debug_dataset": True}, set()),
]


@pytest.mark.parametrize(("general", "first", "second", "differ"), CASES)
def test_every_other_value_of_a_dataset_is_reported(
    tmp_path: Path,
    general: dict[str, Any],
    first: dict[str, Any],
    second: dict[str, Any],
    differ: set[str],
) -> None:
    source = {
        "general": general,
        "datasets": [
            {"resolution": 512, "subsets": _SUBSETS, **first},
            {"resolution": 512, "subsets": _SUBSETS, **second},
        ],
    }
    found = from_sd_scripts(source, folder=tmp_path, family="sdxl")
    lost = {
        entry.key.removeprefix("datasets.1.")
        for entry in found.report.differences
        if entry.key.startswith("datasets.1.")
    }
    assert lost == differ
    for entry in found.report.entries:
        if entry.key.startswith("datasets.1.") and entry.key.endswith(tuple(differ)):
            assert not entry.sets
    expected = {"batch_size": 1, **general, **first}["batch_size"]
    assert parse_config(found.data).batch_size == expected


def test_values_that_the_first_dataset_replaces_are_not_taken(tmp_path: Path) -> None:
    source = {
        "train_batch_size": 5,
        "resolution": 768,
        "general": {"batch_size": 2},
        "datasets": [{"resolution": 512, "batch_size": 3, "subsets": _SUBSETS}],
    }
    found = from_sd_scripts(source, folder=tmp_path, family="sdxl")
    config = parse_config(found.data)
    assert (config.batch_size, config.resolution) == (3, 512)
    entries = {entry.key: entry for entry in found.report.entries}
    given = {"train_batch_size": 5, "resolution": 768, "general.batch_size": 2}
    for key, value in given.items():
        entry = entries[key]
        assert (entry.value, entry.outcome, entry.sets) == (value, "ignored", ())
        assert "first dataset" in entry.note
    assert entries["datasets.0.batch_size"].outcome == "taken"


def test_a_weight_of_the_prior_concerns_datasets_with_its_images(
    tmp_path: Path,
) -> None:
    def lost(is_reg: bool) -> list[str]:
        subsets = [{"image_dir": "b", "is_reg": is_reg}]
        first = {"resolution": 512, "prior_loss_weight": 0.5, "subsets": _SUBSETS}
        source = {"datasets": [first, {"resolution": 512, "subsets": subsets}]}
        found = from_sd_scripts(source, folder=tmp_path, family="sdxl")
        return [entry.key for entry in found.report.differences]

    assert "datasets.1.prior_loss_weight" in lost(True)
    assert "datasets.1.prior_loss_weight" not in lost(False)

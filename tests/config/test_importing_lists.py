"""Entries of lists of other programs that are no objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stiefel_lora.config.importing import Imported, import_file
from stiefel_lora.config.importing.from_sd_scripts import from_sd_scripts

_BASE = {"model_type": "STABLE_DIFFUSION_XL_10_BASE", "training_method": "LORA"}
_SAMPLE = {"prompt": "a cat"}

ONETRAINER: list[tuple[dict[str, Any], dict[str, bool]]] = [
    ({"concepts": {"a": 1}}, {"concepts": True}),
    ({"concepts": [1, {"path": "a"}]}, {"concepts.0": True}),
    ({"samples": "a cat"}, {"samples": False}),
    ({"samples": [7, _SAMPLE, None]}, {"samples.0": False, "samples.2": False}),
]


def _others(found: Imported) -> dict[str, bool]:
    notes = ("is not a list", "is not an object with keys")
    entries = [entry for entry in found.report.entries if entry.note in notes]
    return {entry.key: entry.matters for entry in entries}


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize(("lists", "lost"), ONETRAINER)
def test_concepts_and_samples_of_onetrainer(
    tmp_path: Path, lists: dict[str, Any], lost: dict[str, bool], in_file: bool
) -> None:
    names = {"concepts": "concept_file_name", "samples": "sample_definition_file_name"}
    source = {**_BASE, **lists}
    if in_file:
        for key, value in lists.items():
            (tmp_path / "list.json").write_text(json.dumps(value), encoding="utf-8")
            source = {**_BASE, names[key]: "list.json"}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(source), encoding="utf-8")
    found = import_file(path)
    assert _others(found) == lost
    keys = [entry.key for entry in found.report.entries if not entry.is_default]
    if "concepts.0" in lost:
        assert found.data["concepts"][0]["path"] == "a"
        # As numbered in the source.
        assert "concepts.1.path" in keys
    if "samples.0" in lost:
        assert found.data["samples"][0]["prompt"] == "a cat"
        assert "samples.1.prompt" in keys


@pytest.mark.parametrize(
    ("datasets", "lost"),
    [
        ([5, {"folder_path": "d"}], {"datasets.0": True}),
        ({"folder_path": "d"}, {"datasets": True}),
        ([{"folder_path": "d"}, None], {"datasets.1": True}),
    ],
)
def test_datasets_of_ai_toolkit(
    tmp_path: Path, datasets: Any, lost: dict[str, bool]
) -> None:
    process = {"type": "sd_trainer", "model": {"is_xl": True}, "datasets": datasets}
    job = {"job": "extension", "config": {"name": "x", "process": [process]}}
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    found = import_file(path)
    place = "config.process.0."
    assert _others(found) == {f"{place}{key}": value for key, value in lost.items()}
    if "datasets.0" in lost:
        entries = [e for e in found.report.entries if e.key.endswith("folder_path")]
        assert [entry.key for entry in entries] == [f"{place}datasets.1.folder_path"]
        assert entries[0].sets == (("concepts.0.path", "d"),)


@pytest.mark.parametrize(
    ("source", "lost"),
    [
        ({"datasets": [3, {"subsets": [{"image_dir": "a"}]}]}, ["datasets.0"]),
        ({"datasets": {"subsets": []}}, ["datasets"]),
        (
            {"datasets": [{"subsets": [9, {"image_dir": "a"}]}]},
            ["datasets.0.subsets.0"],
        ),
        ({"datasets": [{"subsets": "a"}]}, ["datasets.0.subsets"]),
        ({"datasets": [], "general": 5, "launcher": "x"}, ["general", "launcher"]),
    ],
)
def test_datasets_of_sd_scripts(
    tmp_path: Path, source: dict[str, Any], lost: list[str]
) -> None:
    found = from_sd_scripts(source, folder=tmp_path, family="sdxl")
    assert _others(found) == dict.fromkeys(lost, True)

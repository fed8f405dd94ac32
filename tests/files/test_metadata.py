from __future__ import annotations

import datetime
import json
import subprocess
import sys

import pytest

from stiefel_lora.files.metadata import training_metadata
from stiefel_lora.files.metadata_images import (
    LearnedFolder,
    image_metadata,
    tag_frequency,
)

DATE = datetime.datetime(2026, 11, 22, 12, 30, 15, 999, tzinfo=datetime.timezone.utc)
FOLDERS = (
    LearnedFolder("train", ["a cat, red", "red"], repeats=3),
    LearnedFolder("train", ["dog; wet"], repeats=0.5, tag_delimiter=";"),
    LearnedFolder("others", ["", ""], repeats=2, is_reg=True),
)


def metadata(**changes) -> dict[str, str]:
    arguments = {
        "title": "emoji",
        "base_model_name": "/srv/models/sdxl-base",
        "rank": 16,
        "alpha": 8.0,
        "optimizer": "stiefel_lora",
        "options": {"a_rule": "muon", "momentum": 0.9, "angle_per_lr": None},
        "learning_rate": 2e-2,
        "steps": 200,
        "resolution": 1024,
        "date": DATE,
        "version": "0.1.0",
        "more": image_metadata(FOLDERS, {(1024, 1024): 6, (832, 1216): 4.5}),
        "extra": {"effective_rank": {"mean": 13.7}},
    }
    return training_metadata(**(arguments | changes))


def test_all_values_are_strings():
    assert all(isinstance(value, str) for value in metadata().values())


def test_what_sd_scripts_and_a1111_read():
    notes = metadata()
    minimum = {
        "ss_v2": "False",
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "16",
        "ss_network_alpha": "8.0",
        "ss_network_args": "{}",
    }
    assert minimum.items() <= notes.items()
    assert notes["ss_optimizer"].startswith("stiefel_lora(a_rule=muon,momentum=0.9")
    assert float(notes["ss_training_started_at"]) == DATE.timestamp()


def test_what_the_lora_was_learned_from():
    notes = metadata()
    assert json.loads(notes["ss_tag_frequency"]) == {
        "train": {"red": 2, "a cat": 1},
        "train (2)": {"dog": 1, "wet": 1},
        "others": {},
    }
    assert json.loads(notes["ss_dataset_dirs"]) == {
        "train": {"n_repeats": 3, "img_count": 2},
        "train (2)": {"n_repeats": 0.5, "img_count": 1},
    }
    others = {"others": {"n_repeats": 2, "img_count": 2}}
    assert json.loads(notes["ss_reg_dataset_dirs"]) == others
    # Repeats counted, as sd-scripts does; half a picture a pass is rounded.
    assert (notes["ss_num_train_images"], notes["ss_num_reg_images"]) == ("6", "4")
    assert json.loads(notes["ss_bucket_info"])["buckets"] == {
        "0": {"resolution": [832, 1216], "count": 4},
        "1": {"resolution": [1024, 1024], "count": 6},
    }


@pytest.mark.parametrize(
    ("kind", "word"), [("epsilon", "epsilon"), ("v_prediction", "v")]
)
def test_the_prediction_type_has_the_name_of_modelspec(kind, word):
    assert metadata(prediction_type=kind)["modelspec.prediction_type"] == word


@pytest.mark.parametrize(
    "key",
    ["ss_network_args", "ss_tag_frequency", "ss_dataset_dirs", "ss_bucket_info"],
)
def test_json_values_are_objects_even_when_nothing_is_known(key):
    notes = metadata(more=image_metadata([], {}))
    assert isinstance(json.loads(notes[key]), dict)


def test_modelspec():
    notes = metadata()
    assert notes["modelspec.sai_model_spec"] == "1.0.1"
    assert notes["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert notes["modelspec.title"] == "emoji"
    assert notes["modelspec.resolution"] == "1024x1024"
    assert notes["modelspec.date"] == "2026-11-22T12:30:15+00:00"


def test_our_own_entries_have_our_prefix():
    notes = metadata()
    options = {"a_rule": "muon", "momentum": 0.9, "angle_per_lr": None}
    assert json.loads(notes["stiefel_lora_options"]) == options
    assert json.loads(notes["stiefel_lora_effective_rank"]) == {"mean": 13.7}
    prefixes = ("ss_", "modelspec.", "stiefel_lora_")
    assert all(key.startswith(prefixes) for key in notes)


def test_no_path_of_the_machine_is_written():
    for name in ("/srv/somebody/sdxl-base", r"D:\somebody\sdxl-base"):
        notes = metadata(base_model_name=name)
        assert notes["ss_sd_model_name"] == "sdxl-base"
        assert "somebody" not in str(notes)


def test_a_number_that_json_does_not_have():
    notes = metadata(extra={"loss": float("nan")})
    assert json.loads(notes["stiefel_lora_loss"]) == "nan"


def test_tags_are_counted_most_frequent_first():
    tags = tag_frequency(["red, cat", "cat , dog,,", ""])
    assert list(tags.items()) == [("cat", 2), ("red", 1), ("dog", 1)]


def test_metadata_and_atomic_need_no_torch():
    code = (
        "import sys, stiefel_lora.files.metadata, stiefel_lora.files.atomic;"
        "sys.exit('torch' in sys.modules)"
    )
    path = {"PYTHONPATH": ":".join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=path).returncode == 0

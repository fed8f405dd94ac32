"""Differences of other programs for FLUX.1 and for trained text encoders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stiefel_lora.config.importing import Imported, import_file, import_words


def sd_scripts(text: str) -> Imported:
    raw = "--model_prediction_type raw --network_module networks.lora_flux"
    return import_words(["flux_train_network.py", *raw.split(), *text.split()])


def onetrainer(folder: Path, **keys: Any) -> Imported:
    usual = {"model_type": "FLUX_DEV_1", "training_method": "LORA"}
    for part in ("text_encoder", "text_encoder_2"):
        usual[part] = {"train": False} | keys.pop(part, {})
    path = folder / "config.json"
    path.write_text(json.dumps({**usual, **keys}), encoding="utf-8")
    return import_file(path)


def marked(found: Imported) -> set[str]:
    return {entry.key for entry in found.report.differences}


def test_the_range_of_timesteps_is_not_used_for_flux_by_sd_scripts() -> None:
    found = sd_scripts("--min_timestep 200 --max_timestep 800")
    assert not found.data.keys() & {"min_noising_strength", "max_noising_strength"}
    sdxl = import_words(["sdxl_train_network.py", "--min_timestep", "200"])
    assert sdxl.data["min_noising_strength"] == 0.2


def test_clip_is_trained_although_t5_is_cached() -> None:
    cached = sd_scripts("--cache_text_encoder_outputs --text_encoder_lr 1e-5")
    assert cached.data["train_text_encoder"] is True
    assert cached.data["text_encoder_learning_rate"] == 1e-5
    assert "train_text_encoder_2" not in cached.data
    only = sd_scripts("--cache_text_encoder_outputs --network_train_unet_only")
    assert "train_text_encoder" not in only.data


def test_the_activation_of_clip() -> None:
    found = sd_scripts("--clip_l clip.safetensors --network_args split_qkv=True")
    assert marked(found) == {"clip_l"}
    assert found.data["text_encoder_model_name"] == "clip.safetensors"


def test_t5_has_the_second_rate() -> None:
    text = "--network_args train_t5xxl=True --text_encoder_lr 1e-5 2e-5"
    data = sd_scripts(text).data
    assert data["text_encoder_learning_rate"] == 1e-5
    assert data["text_encoder_2_learning_rate"] == 2e-5


@pytest.mark.parametrize(
    ("arguments", "layers", "fused"),
    [
        ("", "transformer_blocks", True),
        ("--network_args train_blocks=all", "transformer_blocks", True),
        ("--network_args train_blocks=double", "transformer_blocks.*", True),
        (
            "--network_args train_blocks=single split_qkv=True",
            "single_transformer_blocks.*",
            False,
        ),
    ],
)
def test_layers_of_sd_scripts(arguments: str, layers: str, fused: bool) -> None:
    found = sd_scripts(arguments)
    assert found.data["layer_filter"] == [layers]
    assert marked(found) == ({"network_module"} if fused else set())


@pytest.mark.parametrize(
    ("format_", "fused"),
    [("KOHYA_LORA", True), ("COMFY_LORA", True), ("DIFFUSERS_LORA", False)],
)
def test_fused_layers_of_onetrainer(tmp_path: Path, format_: str, fused: bool) -> None:
    found = onetrainer(tmp_path, output_model_format=format_, train_dtype="BFLOAT_16")
    assert marked(found) == ({"output_model_format"} if fused else set())


@pytest.mark.parametrize(
    ("dtype", "matters"), [("FLOAT_32", True), ("BFLOAT_16", False)]
)
def test_the_timestep_of_onetrainer(tmp_path: Path, dtype: str, matters: bool) -> None:
    found = onetrainer(tmp_path, train_dtype=dtype)
    (entry,) = (e for e in found.report.entries if e.key == "timestep_distribution")
    assert "1 of 1000 lower" in entry.note
    assert entry.matters is matters


@pytest.mark.parametrize(
    ("model", "part"),
    [("FLUX_DEV_1", "dropout of T5"), ("STABLE_DIFFUSION_XL_10_BASE", "projection")],
)
def test_the_second_encoder_of_onetrainer(
    tmp_path: Path, model: str, part: str
) -> None:
    second = {"text_encoder_2": {"train": True}, "train_dtype": "BFLOAT_16"}
    found = onetrainer(tmp_path, model_type=model, **second)
    (entry,) = found.report.differences
    assert entry.key == "text_encoder_2.train"
    assert part in entry.note


def test_encoders_of_onetrainer_without_a_rate_have_that_of_the_run(
    tmp_path: Path,
) -> None:
    keys: dict[str, Any] = {
        "model_type": "STABLE_DIFFUSION_XL_10_BASE",
        "learning_rate": 1e-5,
        "unet": {"learning_rate": 1e-4},
        "text_encoder": {"train": True},
        "text_encoder_2": {"train": True, "learning_rate": 2e-5},
    }
    data = onetrainer(tmp_path, **keys).data
    assert data["learning_rate"] == 1e-4
    assert data["text_encoder_learning_rate"] == 1e-5
    assert data["text_encoder_2_learning_rate"] == 2e-5


@pytest.mark.parametrize(
    ("name", "keys", "part"),
    [
        ("SIGMOID", {"timestep_shift": 3.0}, "twice"),
        ("SIGMOID", {"dynamic_timestep_shifting": True}, "twice"),
        ("SIGMOID", {}, ""),
        ("COS_MAP", {"timestep_shift": 3.0}, ""),
        ("COS_MAP", {"timestep_shift": 3.0, "min_noising_strength": 0.2}, "range"),
        ("LOGIT_NORMAL", {"timestep_shift": 3.0, "min_noising_strength": 0.2}, ""),
    ],
)
def test_shifted_distributions_of_onetrainer(
    tmp_path: Path, name: str, keys: dict[str, Any], part: str
) -> None:
    usual = {"train_dtype": "BFLOAT_16", "timestep_distribution": name}
    found = onetrainer(tmp_path, **usual, **keys)
    (entry,) = (e for e in found.report.entries if e.key == "timestep_distribution")
    assert entry.matters is bool(part)
    assert part in entry.note

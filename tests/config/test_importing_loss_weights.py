"""Loss weights that other programs compute by another formula are reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stiefel_lora.config.importing import import_file, import_words

VELOCITY = "--v_parameterization"
TERMINAL = f"{VELOCITY} --zero_terminal_snr"


@pytest.mark.parametrize(
    ("text", "key", "part"),
    [
        ("--debiased_estimation_loss", "debiased_estimation_loss", ""),
        (
            f"{VELOCITY} --debiased_estimation_loss",
            "debiased_estimation_loss",
            "1 / (SNR + 1)",
        ),
        (f"{VELOCITY} --min_snr_gamma 5", "min_snr_gamma", ""),
        (f"{TERMINAL} --min_snr_gamma 5", "min_snr_gamma", "without zero_terminal_snr"),
        # Without v_parameterization, it has no effect.
        ("--zero_terminal_snr --min_snr_gamma 5", "min_snr_gamma", ""),
    ],
)
def test_those_of_sd_scripts(text: str, key: str, part: str) -> None:
    report = import_words(["sdxl_train_network.py", *text.split()]).report
    marked = {entry.key: entry.note for entry in report.differences}
    assert part in marked[key] if part else key not in marked


@pytest.mark.parametrize(
    ("keys", "marked"),
    [
        ({"loss_weight_fn": "DEBIASED_ESTIMATION"}, False),
        (
            {"loss_weight_fn": "DEBIASED_ESTIMATION", "force_v_prediction": True},
            True,
        ),
        (
            {
                "loss_weight_fn": "DEBIASED_ESTIMATION",
                "rescale_noise_scheduler_to_zero_terminal_snr": True,
            },
            True,
        ),
        ({"loss_weight_fn": "MIN_SNR_GAMMA", "force_v_prediction": True}, False),
    ],
)
def test_those_of_onetrainer(
    tmp_path: Path, keys: dict[str, object], marked: bool
) -> None:
    path = tmp_path / "config.json"
    sdxl = {"model_type": "STABLE_DIFFUSION_XL_10_BASE", "training_method": "LORA"}
    path.write_text(json.dumps({**sdxl, **keys}), encoding="utf-8")
    found = import_file(path)
    assert (
        "loss_weight_fn" in [entry.key for entry in found.report.differences]
    ) is marked
    assert found.data["loss_weight_fn"] == str(keys["loss_weight_fn"]).lower()


def test_options_of_loading_are_no_difference() -> None:
    words = ["--tokenizer_cache_dir", "here", "--disable_mmap_load_safetensors"]
    assert not import_words(["sdxl_train_network.py", *words]).report.differences

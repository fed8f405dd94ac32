"""One step with trained text encoders of SDXL is one step of sd-scripts itself.

Needs what tests/hosts/test_sd_scripts_one_step.py needs.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from own_one_step import assert_same_step, make_batch, own_step, renamed
from safetensors.torch import load_file, save_file
from sd_scripts_run import HERE, HOST, MARKS, step_words, take_steps
from text_one_step import ENCODERS, EPS, trained_part, write_text_loras

from helpers.runs import make_images
from stiefel_lora.config.importing import import_words

pytestmark = MARKS

SCRIPT = "sdxl_train_network.py"
CASES = {
    "rates": "--network_alpha 1 --unet_lr 2e-3 --text_encoder_lr 1e-3 5e-4",
    "rate_of_the_run": "--unet_lr 2e-3",
    "long": "--max_token_length 150",
    "weighted": "--weighted_captions",
}
CAPTIONS = [
    "a (red:1.3) thing",
    "another thing, on a table, in a room with a window, and so on until it is long "
    "enough for two chunks",
    "",
]


def _words(folder: Path, name: str, text: str) -> list[str]:
    alpha = "1" if "alpha" in text else "4"
    own = (
        f"--pretrained_model_name_or_path {folder}/made/model "
        f"--network_module networks.lora --network_alpha {alpha} "
        f"--network_weights {folder}/text-{alpha}.safetensors "
        f"--optimizer_args eps={EPS}"
    )
    return step_words(folder, name, f"{own} {text}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Take the steps of the host, in one process."""
    folder = tmp_path_factory.mktemp("text_step")
    make_images(folder / "images" / "1_thing", count=3, side=64)
    HOST.run(HERE / "sd_scripts_model.py", folder / "made")
    model = folder / "made" / "model"
    for alpha in (1, 4):
        write_text_loras(folder, model, f"text-{alpha}", ENCODERS, alpha)
    save_file(make_batch(model), folder / "batch.safetensors")
    (folder / "captions.json").write_text(json.dumps(CAPTIONS), encoding="utf-8")
    cases = {
        name: [SCRIPT, *_words(folder, name, text)] for name, text in CASES.items()
    }
    take_steps(folder, cases)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_the_step_is_that_of_sd_scripts(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = import_words([SCRIPT, *_words(folder, name, CASES[name])])
    assert not imported.report.differences
    batch = load_file(folder / "batch.safetensors")
    found = own_step(imported, folder, batch, monkeypatch, CAPTIONS)
    whole = renamed(load_file(folder / f"{name}.safetensors"), "sdxl")
    assert_same_step(trained_part(whole, folder / "made" / "model", ENCODERS), found)

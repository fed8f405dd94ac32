"""One step of an imported configuration is one step of sd-scripts itself.

Needs a checkout and its environment; docs/integrations/sd-scripts.md describes how
to make them:

    SD_SCRIPTS_ROOT=CHECKOUT python -m pytest tests/hosts -k sd_scripts_one_step
"""

from __future__ import annotations

from pathlib import Path

import pytest
from own_one_step import (
    assert_same_step,
    make_batch,
    own_step,
    relative_error,
    renamed,
    write_loras,
)
from safetensors.torch import load_file, save_file
from sd_scripts_run import HERE, HOST, MARKS, step_words, take_steps
from torch import Tensor, nn

from helpers.families import open_sdxl
from helpers.runs import make_images
from stiefel_lora.config.importing import Imported, import_words
from stiefel_lora.families.unet import UNetFamily
from stiefel_lora.training.loss.level_weights import LEVEL_WEIGHTS

pytestmark = MARKS

SCRIPT = "sdxl_train_network.py"

CASES = {
    "plain": "",
    "alpha_and_clipping": "--network_alpha 1 --max_grad_norm 0.001",
    "min_snr": "--min_snr_gamma 5",
    "offset": "--noise_offset 0.1 --adaptive_noise_scale 0.05",
    "noise": "--ip_noise_gamma 0.1 --multires_noise_iterations 6",
    "debiased": "--loss_type l1 --debiased_estimation_loss",
    "velocity": "--v_parameterization --zero_terminal_snr",
}
"""Options by name. By default, alpha is 4, the rank."""

REPORTED = {
    "velocity_debiased": (
        "--v_parameterization --debiased_estimation_loss",
        "debiased_estimation_loss",
    ),
    "rescaled_min_snr": (
        "--v_parameterization --zero_terminal_snr --min_snr_gamma 5",
        "min_snr_gamma",
    ),
}
"""Options, and the one that the report marks because the other program differs."""


def _words(folder: Path, name: str, text: str) -> list[str]:
    more = text.split()
    alpha = more[more.index("--network_alpha") + 1] if "alpha" in text else "4"
    own = (
        f"--pretrained_model_name_or_path {folder}/made/model "
        f"--network_module networks.lora --network_alpha {alpha} "
        f"--network_weights {folder}/alpha-{alpha}.safetensors "
        "--network_train_unet_only --cache_text_encoder_outputs"
    )
    return step_words(folder, name, f"{own} {text}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Take the steps of the host, in one process."""
    folder = tmp_path_factory.mktemp("one_step")
    make_images(folder / "images" / "1_thing", count=3, side=64)
    HOST.run(HERE / "sd_scripts_model.py", folder / "made")
    model = folder / "made" / "model"
    write_loras(
        folder,
        model,
        (1, 4),
        lambda name, layer: "attentions" in name and isinstance(layer, nn.Linear),
    )
    save_file(make_batch(model), folder / "batch.safetensors")
    options = CASES | {name: text for name, (text, _) in REPORTED.items()}
    cases = {
        name: [SCRIPT, *_words(folder, name, text)] for name, text in options.items()
    }
    take_steps(folder, cases)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_the_step_is_that_of_sd_scripts(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = _imported(folder, name, CASES[name])
    assert not imported.report.differences
    found = _own(imported, folder, monkeypatch)
    assert_same_step(renamed(load_file(folder / f"{name}.safetensors"), "sdxl"), found)


@pytest.mark.parametrize("name", REPORTED)
def test_a_difference_is_the_reported_one(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, option = REPORTED[name]
    imported = _imported(folder, name, text)
    assert [entry.key for entry in imported.report.differences] == [option]
    expected = renamed(load_file(folder / f"{name}.safetensors"), "sdxl")
    found = _own(imported, folder, monkeypatch)
    assert relative_error(expected, found, "loss") > 1e-4
    # With the formula of the report, the step is the same.
    if option == "debiased_estimation_loss":
        weight = lambda ratio, *_: 1 / (ratio.clamp_max(1000) + 1)  # noqa: E731
        monkeypatch.setitem(LEVEL_WEIGHTS, "debiased_estimation", weight)
    else:
        plain = open_sdxl(folder / "made" / "model").signal_to_noise
        ratio = lambda _, timesteps: plain(timesteps)  # noqa: E731
        monkeypatch.setattr(UNetFamily, "signal_to_noise", ratio)
    assert_same_step(expected, _own(imported, folder, monkeypatch))


def _imported(folder: Path, name: str, text: str) -> Imported:
    return import_words([SCRIPT, *_words(folder, name, text)])


def _own(
    imported: Imported, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Tensor]:
    return own_step(
        imported, folder, load_file(folder / "batch.safetensors"), monkeypatch
    )

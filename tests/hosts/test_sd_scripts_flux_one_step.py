"""One step of an imported FLUX.1 configuration is one step of sd-scripts itself.

Needs what tests/hosts/test_sd_scripts_one_step.py needs.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from counted_draws import PLACES, CountedDraws, counted_randn
from flux_one_step import (
    comparable,
    fused_names,
    fused_step,
    make_flux_batch,
    write_flux_loras,
)
from own_one_step import assert_same_step, own_step, relative_error, renamed
from safetensors.torch import load_file, save_file
from sd_scripts_flux_folder import write_diffusers_folder
from sd_scripts_run import HERE, HOST, MARKS, step_words, take_steps
from torch import Tensor
from torch.nn import functional

from helpers.runs import make_images
from stiefel_lora.config import parse_config
from stiefel_lora.config.importing import import_words
from stiefel_lora.families.flux import Flux
from stiefel_lora.families.protocol import Prediction
from stiefel_lora.training.loss.timesteps import make_draw

pytestmark = MARKS

SCRIPT = "flux_train_network.py"
SHIFT = "--timestep_sampling shift --discrete_flow_shift 3.1582"
NORMAL = "--weighting_scheme logit_normal --logit_mean 0.5 --logit_std 1.5"
CASES = {
    "shift": SHIFT,
    "sigmoid": "--timestep_sampling sigmoid --sigmoid_scale 0.7",
    "uniform": "--timestep_sampling uniform --guidance_scale 1",
    "flux_shift": "--timestep_sampling flux_shift --network_alpha 1",
    "sigma": "",
    "sigma_normal": NORMAL,
    "noise": f"{SHIFT} --ip_noise_gamma 0.1 --loss_type l1",
    "levels": f"{SHIFT} --min_timestep 200 --max_timestep 800",
    "clip": f"{SHIFT} --text_encoder_lr 5e-4",
    "scaled": f"{SHIFT} --model_prediction_type sigma_scaled",
    "text_mask": f"{SHIFT} --apply_t5_attn_mask",
}
"""Options by name. By default, alpha is 4, the rank."""

REPORTED = {
    "scaled": "model_prediction_type",
    "text_mask": "apply_t5_attn_mask",
}
"""Options that the report marks, besides the fused layers and CLIP's activation."""

REVERSED = ("sigma", "sigma_normal")
"""Cases in which small random numbers are high noise levels there."""

LEVELS = torch.tensor([int(1000 * place) for place in PLACES])
CAPTIONS = ["a thing", "another thing, on a table", ""]


def _words(folder: Path, name: str, text: str) -> list[str]:
    more = text.split()
    alpha = more[more.index("--network_alpha") + 1] if "alpha" in text else "4"
    kind = "clip" if name == "clip" else "fused"
    own = (
        f"--pretrained_model_name_or_path {folder}/made/flux.safetensors "
        f"--ae {folder}/made/ae.safetensors --clip_l {folder}/made/clip_l.safetensors "
        f"--t5xxl {folder}/made/t5xxl.safetensors --t5xxl_max_token_length 16 "
        f"--network_module networks.lora_flux --network_alpha {alpha} "
        f"--network_weights {folder}/{kind}-{alpha}.safetensors "
        "--model_prediction_type raw --cache_text_encoder_outputs"
    )
    trained = "--network_train_unet_only" if kind == "fused" else ""
    return step_words(folder, name, f"{own} {text} {trained}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Take the steps of the host, in one process."""
    folder = tmp_path_factory.mktemp("flux_step")
    make_images(folder / "images" / "1_thing", count=3, side=64)
    HOST.run(HERE / "sd_scripts_flux_model.py", HOST.root, folder / "made")
    model = write_diffusers_folder(folder / "made", folder / "model")
    write_flux_loras(folder, model, (1, 4))
    save_file(make_flux_batch(model), folder / "batch.safetensors")
    (folder / "captions.json").write_text(json.dumps(CAPTIONS), encoding="utf-8")
    cases = {
        name: [SCRIPT, *_words(folder, name, text)] for name, text in CASES.items()
    }
    take_steps(folder, cases)
    return folder


def _steps(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, model: str = "model"
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the step of sd-scripts and that of this package."""
    imported = import_words([SCRIPT, *_words(folder, name, CASES[name])])
    marked = {entry.key for entry in imported.report.differences}
    own = {REPORTED[name]} if name in REPORTED else set()
    assert marked == {"network_module", "clip_l"} | own
    batch = load_file(folder / "batch.safetensors")
    expected = fused_names(renamed(load_file(folder / f"{name}.safetensors"), "flux"))
    if name in REVERSED:
        batch["timesteps"] = expected["timesteps"]
        # The program draws them after the noise.
        expected.pop("drawn 1", None)
    # All parts are in one folder.
    files = ("vae", "text_encoder", "text_encoder_2")
    changes: dict[str, Any] = {f"{part}_model_name": None for part in files}
    changes["base_model_name"] = str(folder / model)
    found = own_step(imported, folder, batch, monkeypatch, CAPTIONS, **changes)
    found = fused_step(found)
    return comparable(expected, found), found


@pytest.mark.parametrize("name", [n for n in CASES if n not in {*REPORTED, "clip"}])
def test_the_step_is_that_of_sd_scripts(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_same_step(*_steps(folder, name, monkeypatch))


def test_scaled_predictions_are_the_reported_difference(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, found = _steps(folder, "scaled", monkeypatch)
    assert relative_error(expected, found, "loss") > 1e-4
    # The prediction there is -sigma v + x, with the noisy latents x.
    predict = Flux.predict

    def scaled(family: Flux, denoiser: Any, batch: Any, *noise_at: Any) -> Prediction:
        noise, timesteps = noise_at[:2]
        found = predict(family, denoiser, batch, *noise_at)
        sigma = (timesteps / 1000).view(-1, 1, 1, 1)
        noisy = (1 - sigma) * batch["latents"] + sigma * noise
        return Prediction(noisy - sigma * found.predicted, found.target)

    monkeypatch.setattr(Flux, "predict", scaled)
    assert_same_step(*_steps(folder, "scaled", monkeypatch))


def test_the_mask_of_t5_is_the_reported_difference(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, found = _steps(folder, "text_mask", monkeypatch)
    assert relative_error(expected, found, "grad ") > 1e-4
    # Padding is not read by the attention there.
    text = load_file(folder / "batch.safetensors")["text_mask"].bool()
    attention = functional.scaled_dot_product_attention

    def masked(query: Tensor, key: Tensor, *given: Any, **more: Any) -> Tensor:
        image = text.new_ones(len(text), key.shape[-2] - text.shape[1])
        more["attn_mask"] = torch.cat([text, image], 1)[:, None, None]
        return attention(query, key, *given, **more)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", masked)
    assert_same_step(*_steps(folder, "text_mask", monkeypatch))


def test_the_activation_of_clip_is_the_reported_difference(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, found = _steps(folder, "clip", monkeypatch)
    assert relative_error(expected, found, "grad text_encoder.") > 1e-3
    shutil.copytree(folder / "model", folder / "gelu")
    path = folder / "gelu" / "text_encoder" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"hidden_act": "gelu"}
    path.write_text(json.dumps(config), encoding="utf-8")
    assert_same_step(*_steps(folder, "clip", monkeypatch, "gelu"))


@pytest.mark.parametrize("name", REVERSED)
def test_discrete_timesteps_have_the_same_distribution(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Theirs are the closest of 1000 levels; the draws are reversed."""
    imported = import_words([SCRIPT, *_words(folder, name, CASES[name])])
    config = parse_config(imported.data)
    draws = CountedDraws()
    # Drawn after the noise.
    draws.normal(1)
    plain = draws.normal
    monkeypatch.setattr(draws, "normal", lambda *shape, **_: -plain(*shape))
    with counted_randn(draws):
        monkeypatch.setattr(torch, "randint", lambda high, *_, **__: high - 1 - LEVELS)
        draw = make_draw(config, 1000, lambda *_: 1.0)
        places = draw.draw(torch.zeros(3, 16, 8, 8), torch.Generator())
    theirs = load_file(folder / f"{name}.safetensors")["timesteps"]
    # A level there is 3 levels wide where the shift is steepest.
    assert (1000 * places - theirs).abs().max() <= 3

"""One step of an imported FLUX.1 configuration is one step of OneTrainer itself.

Needs what tests/hosts/test_onetrainer_one_step_host.py needs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from diffusers import FluxTransformer2DModel
from flux_one_step import comparable, fused_step, make_flux_batch, write_flux_loras
from onetrainer_runs import Runs
from own_one_step import assert_same_step, own_step, relative_error
from safetensors.torch import load_file, save_file
from torch import Tensor
from unmodified_host import UnmodifiedHost

from stiefel_lora.config.importing import import_file

HOST = UnmodifiedHost("ONETRAINER_ROOT")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not HOST.given, reason="ONETRAINER_ROOT names no checkout"),
]

EARLIER = "timestep_distribution"
FUSED = {"output_model_format": "KOHYA_LORA"}
SPLIT = {"output_model_format": "LEGACY_LORA"}
CASES: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "plain": ("split", SPLIT, set()),
    "alpha": ("split", SPLIT | {"lora_alpha": 1.0}, set()),
    "guidance": ("split", SPLIT | {"transformer": {"guidance_scale": 3.5}}, set()),
    "sigma": ("split", SPLIT | {"loss_weight_fn": "SIGMA"}, set()),
    "noise": (
        "split",
        SPLIT | {"offset_noise_weight": 0.1, "perturbation_noise_weight": 0.05},
        set(),
    ),
    "losses": (
        "split",
        SPLIT | {"mse_strength": 0.5, "mae_strength": 0.3, "huber_strength": 0.7},
        set(),
    ),
    "masked": ("split", SPLIT | {"masked_training": True}, set()),
    "fused": ("fused", FUSED, {"output_model_format"}),
    "clip": (
        "clip",
        FUSED | {"text_encoder": {"train": True}},
        {"output_model_format"},
    ),
    "text_mask": (
        "split",
        SPLIT | {"transformer": {"attention_mask": True}},
        {"transformer.attention_mask"},
    ),
}
"""Name of the LoRA file, settings and what the report marks, besides EARLIER."""

LEVELS = (1.0, 501.0, 1000.0)
CAPTIONS = ["a thing", "another thing, on a table", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Take the steps of the host, in one process."""
    runs = Runs(HOST, tmp_path_factory.mktemp("flux_step"))
    for path in [*runs.folder.rglob("03.*")]:
        path.unlink()
    model = runs.make_model("flux")
    write_flux_loras(runs.folder, model, (1, 4))
    save_file(make_flux_batch(model, LEVELS), runs.folder / "batch.safetensors")
    (runs.folder / "captions.json").write_text(json.dumps(CAPTIONS), encoding="utf-8")
    for name, (lora, changes, _) in CASES.items():
        settings = {"lora_alpha": 4.0, **changes}
        file = runs.folder / f"{lora}-{settings['lora_alpha']:g}.safetensors"
        for key in ("transformer", "text_encoder", "text_encoder_2"):
            part = {"weight_dtype": "FLOAT_32", "train": key == "transformer"}
            settings[key] = part | settings.get(key, {})
        runs.step_config(
            name,
            model_type="FLUX_DEV_1",
            base_model_name=str(model),
            lora_model_name=str(file),
            layer_filter="transformer_block",
            text_encoder_2_sequence_length=16,
            **settings,
        )
    runs.take_steps(CASES)
    return runs.folder


@pytest.fixture
def earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the transformer the timestep of OneTrainer, as reported."""
    forward = FluxTransformer2DModel.forward

    def changed(self: FluxTransformer2DModel, *given: Any, **more: Any) -> Any:
        timestep = more.pop("timestep") - 0.001
        return forward(self, *given, timestep=timestep, **more)

    monkeypatch.setattr(FluxTransformer2DModel, "forward", changed)


def _steps(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the step of OneTrainer and that of this package."""
    imported = import_file(folder / f"{name}.json")
    marked = {entry.key for entry in imported.report.differences}
    assert marked == {EARLIER} | CASES[name][2]
    batch = load_file(folder / "batch.safetensors")
    if name == "text_mask":
        # As reported, padding is not masked here.
        batch["embeds"] = batch["embeds"] * batch["text_mask"][..., None]
    found = own_step(imported, folder, batch, monkeypatch, CAPTIONS)
    expected = load_file(folder / f"{name}.safetensors")
    expected["timesteps"] += 1
    if "output_model_format" in marked:
        found = fused_step(found)
        return comparable(expected, found), found
    return expected, found


@pytest.mark.usefixtures("earlier")
@pytest.mark.parametrize("name", CASES)
def test_the_step_is_that_of_onetrainer(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_same_step(*_steps(folder, name, monkeypatch))


def test_the_timestep_is_the_reported_difference(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert relative_error(*_steps(folder, "plain", monkeypatch), "grad ") > 1e-3

"""One step with trained text encoders of SDXL is one step of OneTrainer itself.

Needs what tests/hosts/test_onetrainer_one_step_host.py needs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from onetrainer_runs import Runs
from own_one_step import assert_same_step, make_batch, own_step
from safetensors.torch import load_file, save_file
from text_one_step import (
    ENCODERS,
    EPS,
    PROJECTION,
    named_as_files,
    trained_part,
    write_text_loras,
)
from unmodified_host import UnmodifiedHost

from stiefel_lora.config.importing import import_file

HOST = UnmodifiedHost("ONETRAINER_ROOT")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not HOST.given, reason="ONETRAINER_ROOT names no checkout"),
]

CASES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "both": (ENCODERS, {}),
    "alpha": (ENCODERS, {"lora_alpha": 1.0}),
    "first": (ENCODERS[:1], {"text_encoder": {"learning_rate": 1e-3}}),
    "rates": (ENCODERS, {"unet": {"learning_rate": 1e-3}}),
    "second": (ENCODERS[1:], {}),
}
"""Trained text encoders and other settings by name."""

CAPTIONS = ["a thing", "another thing, on a table", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Take the steps of the host, in one process."""
    runs = Runs(HOST, tmp_path_factory.mktemp("text_step"))
    for path in [*runs.folder.rglob("03.*")]:
        path.unlink()
    model = runs.make_model("sdxl")
    save_file(make_batch(model), runs.folder / "batch.safetensors")
    (runs.folder / "captions.json").write_text(json.dumps(CAPTIONS), encoding="utf-8")
    for name, (parts, changes) in CASES.items():
        settings = {"lora_alpha": 4.0, **changes}
        alpha = settings["lora_alpha"]
        lora = write_text_loras(runs.folder, model, f"{name}-lora", parts, alpha)
        for part in ("unet", *ENCODERS):
            usual = {"weight_dtype": "FLOAT_32", "train": part in ("unet", *parts)}
            settings[part] = usual | settings.get(part, {})
        runs.step_config(
            name,
            {"eps": EPS},
            model_type="STABLE_DIFFUSION_XL_10_BASE",
            base_model_name=str(model),
            lora_model_name=str(lora),
            **settings,
        )
    runs.take_steps(CASES)
    return runs.folder


@pytest.mark.parametrize("name", CASES)
def test_the_step_is_that_of_onetrainer(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = CASES[name][0]
    imported = import_file(folder / f"{name}.json")
    second = {"text_encoder_2.train"} & {f"{part}.train" for part in parts}
    assert {entry.key for entry in imported.report.differences} == second
    batch = load_file(folder / "batch.safetensors")
    found = own_step(imported, folder, batch, monkeypatch, CAPTIONS)
    whole = named_as_files(load_file(folder / f"{name}.safetensors"))
    assert_same_step(trained_part(whole, folder / "sdxl", parts), found)
    # As reported, OneTrainer trains it too.
    if second:
        assert whole[f"grad {PROJECTION}.lora_up.weight"].any()

"""One step of an imported configuration is one step of OneTrainer itself.

Needs a checkout and its environment; docs/integrations/onetrainer.md describes how
to make them:

    ONETRAINER_ROOT=CHECKOUT python -m pytest tests/hosts -k onetrainer_one_step
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from onetrainer_runs import Runs
from own_one_step import (
    assert_same_step,
    make_batch,
    own_step,
    relative_error,
    write_loras,
)
from safetensors.torch import load_file, save_file
from torch import nn
from unmodified_host import UnmodifiedHost

from stiefel_lora.config.importing import import_file
from stiefel_lora.training.loss.level_weights import LEVEL_WEIGHTS

HOST = UnmodifiedHost("ONETRAINER_ROOT")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not HOST.given, reason="ONETRAINER_ROOT names no checkout"),
]

MIN_SNR = {"loss_weight_fn": "MIN_SNR_GAMMA", "loss_weight_strength": 5.0}
VELOCITY = {"rescale_noise_scheduler_to_zero_terminal_snr": True}
MASKED = {"masked_training": True, "unmasked_weight": 0.2}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "alpha": {"lora_alpha": 1.0},
    "min_snr": MIN_SNR,
    "debiased": {"loss_weight_fn": "DEBIASED_ESTIMATION"},
    "offset": {"offset_noise_weight": 0.1, "perturbation_noise_weight": 0.05},
    "mixed_loss": {
        "mse_strength": 0.5,
        "mae_strength": 0.3,
        "huber_strength": 0.7,
        "huber_delta": 0.5,
    },
    "clipped": {"clip_grad_norm": 0.001},
    "velocity_terminal": VELOCITY,
    "velocity_min_snr": VELOCITY | MIN_SNR,
    "masked": MASKED | {"normalize_masked_area_loss": True},
    "prior": MASKED | {"masked_prior_preservation_weight": 0.5},
}
"""Settings by name. By default, alpha is 4, the rank."""

REPORTED = VELOCITY | {"loss_weight_fn": "DEBIASED_ESTIMATION"}
"""Settings of which the report marks one, because OneTrainer differs."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Take the steps of the host, in one process."""
    runs = Runs(HOST, tmp_path_factory.mktemp("one_step"))
    for path in [*runs.folder.rglob("03.*")]:
        path.unlink()
    model = runs.make_model("sdxl")
    write_loras(
        runs.folder,
        model,
        (1, 4),
        lambda name, layer: "attentions" in name and isinstance(layer, nn.Linear),
    )
    save_file(make_batch(model), runs.folder / "batch.safetensors")
    cases = CASES | {"reported": REPORTED}
    for name, changes in cases.items():
        settings = {"lora_alpha": 4.0, **changes}
        lora = runs.folder / f"alpha-{settings['lora_alpha']:g}.safetensors"
        runs.step_config(
            name,
            model_type="STABLE_DIFFUSION_XL_10_BASE",
            base_model_name=str(model),
            lora_model_name=str(lora),
            **settings,
        )
    runs.take_steps(cases)
    return runs.folder


@pytest.mark.parametrize("name", CASES)
def test_the_step_is_that_of_onetrainer(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = import_file(folder / f"{name}.json")
    assert not imported.report.differences
    batch = load_file(folder / "batch.safetensors")
    found = own_step(imported, folder, batch, monkeypatch)
    assert_same_step(load_file(folder / f"{name}.safetensors"), found)


def test_a_difference_is_the_reported_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = import_file(folder / "reported.json")
    assert [entry.key for entry in imported.report.differences] == ["loss_weight_fn"]
    batch = load_file(folder / "batch.safetensors")
    expected = load_file(folder / "reported.safetensors")
    found = own_step(imported, folder, batch, monkeypatch)
    assert relative_error(expected, found, "loss") > 1e-4
    # With the formula of the report, the step is the same.
    weight = lambda ratio, *_: (ratio.clamp_max(1000) + 1).rsqrt()  # noqa: E731
    monkeypatch.setitem(LEVEL_WEIGHTS, "debiased_estimation", weight)
    assert_same_step(expected, own_step(imported, folder, batch, monkeypatch))

"""Zero-terminal SNR that is set in the configuration, not in the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from helpers.runs import factors_of, tiny_config
from stiefel_lora import ModelError
from stiefel_lora.config import parse_config
from stiefel_lora.families import open_family
from stiefel_lora.training.trainer import train

CPU = torch.device("cpu")
FORCED = {"zero_terminal_snr": True, "prediction_type": "v_prediction"}


def opened(model: Path, **settings: Any) -> Any:
    return open_family(parse_config({"base_model_name": str(model), **settings}), CPU)


def test_the_schedule_of_training_is_rescaled(tiny_sdxl: Path) -> None:
    family = opened(tiny_sdxl, **FORCED)
    known = opened(tiny_sdxl)._schedule.config
    steps = np.linspace(
        known["beta_start"] ** 0.5, known["beta_end"] ** 0.5, 1000, dtype=np.float64
    )
    roots = np.sqrt(np.cumprod(1 - steps**2))
    # Equation 8 of arXiv:2305.08891: shifted to 0 at the end, and the start is kept.
    scaled = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    found = family._schedule.alphas_cumprod.double().numpy()
    assert found == pytest.approx(scaled**2, abs=1e-6)
    assert float(family.signal_to_noise(torch.tensor([999]))) == 0
    plain = opened(tiny_sdxl, prediction_type="v_prediction")
    assert float(plain.signal_to_noise(torch.tensor([999]))) > 1e-3
    assert plain.base_fingerprint != family.base_fingerprint


@pytest.mark.parametrize(
    ("name", "kind"), [("sdxl", "EulerDiscreteScheduler"), ("sd15", "DDIMScheduler")]
)
def test_so_is_that_of_samples(
    request: pytest.FixtureRequest, name: str, kind: str
) -> None:
    model = request.getfixturevalue(f"tiny_{name}")
    schedule = opened(model, model_type=name, **FORCED)._sampling_schedule()
    # PNDM of SD 1.5 has no such option.
    assert type(schedule) is getattr(diffusers, kind)
    assert schedule.config["rescale_betas_zero_snr"] is True
    assert schedule.config["timestep_spacing"] == "trailing"
    assert float(schedule.alphas_cumprod[-1]) < 1e-7


def test_a_model_that_predicts_noise_is_refused(tiny_sdxl: Path) -> None:
    with pytest.raises(ModelError, match=r"^zero_terminal_snr: the base model .* has"):
        opened(tiny_sdxl, zero_terminal_snr=True)


def test_it_reaches_the_run(tiny_sdxl: Path, tmp_path: Path) -> None:
    changes = {
        "prediction_type": "v_prediction",
        "steps": 1,
        "loss_weight_fn": "min_snr_gamma",
        "sample_every": 1,
        "samples": [{"prompt": "a", "steps": 2}],
    }
    plain = train(tiny_config(tiny_sdxl, tmp_path, **changes))
    forced = train(tiny_config(tiny_sdxl, tmp_path, zero_terminal_snr=True, **changes))
    one, other = factors_of(plain), factors_of(forced)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert all(value.isfinite().all() for value in other.values())

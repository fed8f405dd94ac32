"""Timesteps of an imported FLUX.1 configuration have the distribution of OneTrainer.

Needs what tests/hosts/test_onetrainer_one_step_host.py needs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from unmodified_host import UnmodifiedHost

from stiefel_lora.config import parse_config
from stiefel_lora.config.importing import import_file
from stiefel_lora.training.loss.timesteps import make_draw

HERE = Path(__file__).parent
HOST = UnmodifiedHost("ONETRAINER_ROOT")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not HOST.given, reason="ONETRAINER_ROOT names no checkout"),
]

COUNT = 200_000
SHIFT = {"timestep_shift": 3.0}
NORMAL = {
    "timestep_distribution": "LOGIT_NORMAL",
    "noising_weight": 0.3,
    "noising_bias": 0.2,
}
RANGE = {"min_noising_strength": 0.2, "max_noising_strength": 0.8}
TAIL = {"timestep_distribution": "HEAVY_TAIL", "noising_weight": 0.5}
PARABOLA = {
    "timestep_distribution": "INVERTED_PARABOLA",
    "noising_weight": 5.0,
    "noising_bias": 0.1,
}
SIGMOID = {
    "timestep_distribution": "SIGMOID",
    "noising_weight": 4.0,
    "noising_bias": 0.1,
}
CASES: dict[str, dict[str, Any]] = {
    "uniform": {"timestep_distribution": "UNIFORM"},
    "uniform_shift": SHIFT | {"timestep_distribution": "UNIFORM"},
    "normal_range_shift": SHIFT | NORMAL | RANGE,
    "tail_shift": SHIFT | TAIL,
    "cosine_shift": SHIFT | {"timestep_distribution": "COS_MAP"},
    "parabola": PARABOLA,
    "parabola_shift": SHIFT | PARABOLA,
    "sigmoid": SIGMOID,
    "sigmoid_shift": SHIFT | SIGMOID,
    "parabola_range": PARABOLA | RANGE,
    "parabola_range_shift": SHIFT | PARABOLA | RANGE,
}

REPORTED = ("sigmoid_shift", "parabola_range_shift")
"""Cases that the report marks."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw the timesteps of the host, in one process."""
    folder = tmp_path_factory.mktemp("timesteps")
    for name, settings in CASES.items():
        config = {"model_type": "FLUX_DEV_1", "training_method": "LORA", **settings}
        config |= {"train_dtype": "BFLOAT_16", "__version": 11}
        (folder / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "cases.json").write_text(json.dumps([*CASES]), encoding="utf-8")
    HOST.run(HERE / "onetrainer_timesteps.py", HOST.root, folder, str(COUNT))
    return folder


def _distance(folder: Path, name: str) -> float:
    """Return the largest difference of the two distribution functions."""
    config = parse_config(import_file(folder / f"{name}.json").data)
    draw = make_draw(config, 1000, lambda *_: 1.0)
    latents = torch.zeros(1, 1, 8, 8).expand(COUNT, 1, 8, 8)
    places = draw.draw(latents, torch.Generator().manual_seed(1))
    own = torch.bincount((1000 * places).long(), minlength=1000)
    theirs = load_file(folder / "timesteps.safetensors")[name].long()
    gap = own - torch.bincount(theirs, minlength=1000)
    return float(gap.cumsum(0).abs().max()) / COUNT


@pytest.mark.parametrize("name", CASES)
def test_the_distribution_is_that_of_onetrainer(folder: Path, name: str) -> None:
    report = import_file(folder / f"{name}.json").report
    marked = {entry.key for entry in report.differences}
    # 0.5 % of all pairs of samples of this size differ by more.
    limit = 1.73 * (2 / COUNT) ** 0.5
    assert ("timestep_distribution" in marked) is (name in REPORTED)
    if name in REPORTED:
        assert _distance(folder, name) > 10 * limit
    else:
        assert _distance(folder, name) <= limit

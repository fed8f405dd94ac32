"""Every method of the catalogue through the whole trainer, stopped and resumed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from helpers.fixtures import StopAfter
from helpers.runs import assert_same_factors, tiny_config
from stiefel_lora.methods import CATALOGUE
from stiefel_lora.training.trainer import train


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CATALOGUE))
def test_it_trains_stops_and_resumes_to_the_bit(
    tiny_sdxl: Path, tmp_path: Path, stop_after: StopAfter, name: str
) -> None:
    if CATALOGUE[name].extra and importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed")
    changes = {"optimizer": {"name": name}, "learning_rate": 1e-3}
    whole = train(tiny_config(tiny_sdxl, tmp_path, run_name="whole", **changes))
    config = tiny_config(tiny_sdxl, tmp_path, **changes)
    with stop_after(2, "stop"):
        stopped = train(config)
    assert (stopped.interrupted, stopped.step) == (True, 2)
    resumed = train(config, resume=stopped.run_dir)
    assert_same_factors(whole, resumed)

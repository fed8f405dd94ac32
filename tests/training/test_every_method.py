"""Every method of the catalogue through the whole trainer, stopped and resumed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers.runs import tiny_config
from stiefel_lora.methods import CATALOGUE
from stiefel_lora.training import send_command
from stiefel_lora.training.loop import Loop
from stiefel_lora.training.trainer import train


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CATALOGUE))
def test_it_trains_stops_and_resumes_to_the_bit(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if CATALOGUE[name].extra and importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed")
    changes = {"optimizer": {"name": name}, "learning_rate": 1e-3}
    whole = train(tiny_config(tiny_sdxl, tmp_path, run_name="whole", **changes))
    config = tiny_config(tiny_sdxl, tmp_path, **changes)
    with monkeypatch.context() as patch:
        log = Loop._log_step

        def log_then_stop(self: Loop, *figures: float) -> None:
            log(self, *figures)
            if self.step == 2:
                send_command(self._folder.root, "stop")

        patch.setattr(Loop, "_log_step", log_then_stop)
        stopped = train(config)
    assert (stopped.interrupted, stopped.step) == (True, 2)
    resumed = train(config, resume=stopped.run_dir)
    assert whole.checkpoint is not None
    assert resumed.checkpoint is not None
    expected = load_file(whole.checkpoint / "lora.safetensors")
    found = load_file(resumed.checkpoint / "lora.safetensors")
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert any(value.any() for value in found.values())

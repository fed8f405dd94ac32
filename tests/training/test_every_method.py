"""Every method of the catalogue through the whole trainer, stopped and resumed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

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
    check_stop_and_resume(tiny_sdxl, tmp_path, stop_after, {"name": name})


@pytest.mark.slow
def test_so_does_any_optimizer_by_its_class(
    tiny_sdxl: Path, tmp_path: Path, stop_after: StopAfter
) -> None:
    options = {"betas": [0.8, 0.9], "decoupled_weight_decay": True}
    chosen = {"name": "custom", "class": "torch.optim.RAdam", "options": options}
    stepped: list[torch.optim.Optimizer] = []
    hook = register_optimizer_step_post_hook(lambda self, *_: stepped.append(self))
    try:
        check_stop_and_resume(tiny_sdxl, tmp_path, stop_after, chosen)
    finally:
        hook.remove()
    assert {type(optimizer) for optimizer in stepped} == {torch.optim.RAdam}
    assert [*stepped[0].defaults["betas"]] == [0.8, 0.9]
    assert stepped[0].defaults["decoupled_weight_decay"]


def check_stop_and_resume(
    tiny_sdxl: Path, tmp_path: Path, stop_after: StopAfter, optimizer: dict[str, object]
) -> None:
    changes = {"optimizer": optimizer, "learning_rate": 1e-3}
    whole = train(tiny_config(tiny_sdxl, tmp_path, run_name="whole", **changes))
    config = tiny_config(tiny_sdxl, tmp_path, **changes)
    with stop_after(2, "stop"):
        stopped = train(config)
    assert (stopped.interrupted, stopped.step) == (True, 2)
    resumed = train(config, resume=stopped.run_dir)
    assert_same_factors(whole, resumed)

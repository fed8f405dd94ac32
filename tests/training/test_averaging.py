"""EMA: stays orthonormal, keeps its product, survives a resume to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from helpers.fixtures import StopAfter
from helpers.runs import assert_same_factors, assert_same_tensors, tiny_config
from stiefel_lora.config import parse_config, remarks
from stiefel_lora.files import load_lora
from stiefel_lora.geometry import orthogonality_error
from stiefel_lora.optim import create_optimizer, init_stiefel_
from stiefel_lora.optim.pairs import Pair, find_pairs
from stiefel_lora.training.checkpointing.checkpoint import load_checkpoint
from stiefel_lora.training.ema import MovingAverage, decay_at
from stiefel_lora.training.trainer import train

CPU = torch.device("cpu")


def adapted() -> tuple[nn.Module, list[Pair]]:
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(12, 16), nn.Linear(16, 8))
    model = get_peft_model(
        base, LoraConfig(r=4, lora_alpha=4, target_modules=["0", "1"])
    )
    init_stiefel_(model)
    return model, find_pairs(model).pairs


def products(pairs: list[Pair]) -> list[torch.Tensor]:
    return [(p.up @ p.down).detach().clone() for p in pairs]


def train_a_little(model: nn.Module, average: MovingAverage, steps: int) -> None:
    optimizer = create_optimizer("stiefel_lora", model, lr=0.3)
    data, target = torch.randn(32, 12), torch.randn(32, 8)
    for step in range(1, steps + 1):
        nn.functional.mse_loss(model(data), target).backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(step)


def test_average_is_orthonormal_with_the_product_of_the_mean_factors() -> None:
    model, pairs = adapted()
    average = MovingAverage(model, pairs, decay=0.9, every=1, device=CPU)
    train_a_little(model, average, 30)
    state = average.state()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trained = products(pairs)
    with average.applied():
        for pair, moved in zip(pairs, trained, strict=True):
            name = f"base_model.model.{pair.name.removeprefix('base_model.model.')}"
            up, down = (state[f"{name}.lora_{x}.default.weight"] for x in "BA")
            # What a plain mean would leave: far from orthonormal.
            assert orthogonality_error(up) > 1e-3
            assert orthogonality_error(pair.up) < 1e-5
            # Two float32 roundings of numbers of size 1.
            assert torch.allclose(pair.up @ pair.down, up @ down, atol=2e-6)
            assert not torch.allclose(pair.up @ pair.down, moved, atol=1e-3)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])


def test_factors_that_turn_against_each_other_do_not_average_away() -> None:
    """(B R, R^T A) is the same adapter for any orthogonal R."""
    model, pairs = adapted()
    with torch.no_grad():
        for pair in pairs:
            pair.down.normal_()
    wanted = products(pairs)
    average = MovingAverage(model, pairs, decay=0.5, every=1, device=CPU)
    for step in range(1, 9):
        with torch.no_grad():
            for pair in pairs:
                turn = torch.linalg.qr(torch.randn(4, 4))[0]
                pair.up.copy_(pair.up @ turn)
                pair.down.copy_(turn.mT @ pair.down)
        average.update(step)
    with average.applied():
        for pair, product in zip(pairs, wanted, strict=True):
            assert torch.allclose(pair.up @ pair.down, product, atol=1e-4)


def test_a_method_with_a_free_b_has_the_plain_mean() -> None:
    model, _ = adapted()
    average = MovingAverage(model, (), decay=0.9, every=1, device=CPU)
    name, weight = next(
        (name, p) for name, p in model.named_parameters() if "lora_A" in name
    )
    expected = weight.detach().clone()
    for step in (1, 2):
        with torch.no_grad():
            weight.add_(1)
        average.update(step)
        keep = (1 + step) / (10 + step)
        expected = keep * expected + (1 - keep) * weight.detach()
    # The order of two float32 roundings.
    assert torch.allclose(average.state()[name], expected, rtol=1e-6)


def test_interval_and_warm_up() -> None:
    model, _ = adapted()
    average = MovingAverage(model, (), decay=0.9, every=5, device=CPU)
    start = average.state()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    average.update(4)
    assert_same_tensors(start, average.state())
    average.update(5)
    assert all(not torch.equal(v, average.state()[k]) for k, v in start.items())
    assert decay_at(9, 0.999) == 10 / 19
    assert decay_at(10**6, 0.999) == 0.999


def test_run_measures_and_writes_the_average_and_resumes_to_the_bit(
    tiny_sdxl: Path, tmp_path: Path, stop_after: StopAfter
) -> None:
    changes = {
        "ema": "cpu",
        "ema_decay": 0.5,
        "ema_update_step_interval": 1,
        "save_without_ema": True,
        "validate_every": 4,
    }
    whole = train(tiny_config(tiny_sdxl, tmp_path, run_name="whole", **changes))
    config = tiny_config(tiny_sdxl, tmp_path, **changes)
    with stop_after(3, "stop"):
        stopped = train(config)
    resumed = train(config, resume=stopped.run_dir)
    assert_same_factors(whole, resumed)
    assert whole.checkpoint is not None
    assert resumed.checkpoint is not None
    first, second = (
        load_checkpoint(whole.checkpoint),
        load_checkpoint(resumed.checkpoint),
    )
    assert_same_tensors(first.average, second.average)
    assert whole.validation_after == resumed.validation_after

    names = [path.name for path in resumed.lora_files]
    assert names == [
        "tiny.safetensors",
        "tiny_peft.safetensors",
        "tiny_without_ema.safetensors",
        "tiny_without_ema_peft.safetensors",
    ]
    averaged, plain = load_lora(resumed.lora_files[0]), load_lora(resumed.lora_files[2])
    for name, factors in averaged.items():
        layer = name.removeprefix("unet.")
        up, down = (second.average[f"{layer}.lora_{x}.default.weight"] for x in "BA")
        assert orthogonality_error(factors.up) < 1e-4
        assert torch.allclose(factors.up @ factors.down, up @ down, atol=1e-6)
        trained = second.factors[f"{layer}.lora_B.default.weight"]
        assert torch.equal(plain[name].up, trained)
        # It has left its start, where A is zero.
        assert down.any()
        assert not torch.equal(factors.up, trained)


def test_what_is_idle_without_ema_is_remarked() -> None:
    config = parse_config({"save_without_ema": True})
    assert "save_without_ema" in [found.key for found in remarks(config)]


def test_resume_of_a_run_without_average_starts_one_and_reports_it(
    tiny_sdxl: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny_config(tiny_sdxl, tmp_path, steps=1))
    config = tiny_config(tiny_sdxl, tmp_path, steps=2, ema="gpu")
    result = train(config, resume="last")
    assert "contains no EMA weights. EMA starts at step 1." in capsys.readouterr().err
    assert result.checkpoint is not None
    kept = load_checkpoint(result.checkpoint)
    assert kept.average.keys() == kept.factors.keys()

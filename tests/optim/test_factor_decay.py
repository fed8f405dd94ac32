"""Weight decay of B and of A apart."""

from __future__ import annotations

import copy
import importlib.util
import io
from typing import Any

import pytest
import torch
from lora_net import LoraNet, backward, task

from stiefel_lora import OptionError, create_optimizer
from stiefel_lora.config import parse_config
from stiefel_lora.methods import CATALOGUE, PACKAGED, Method, decay_excess
from stiefel_lora.methods._factor_decay import FACTOR_DECAY


def decays_apart(entry: Method) -> bool:
    return all(option in entry.options for option in FACTOR_DECAY)


APART = [entry.name for entry in CATALOGUE.values() if decays_apart(entry)]
TOGETHER = [
    entry.name
    for entry in CATALOGUE.values()
    if entry.name not in APART
    and any(option.name == "weight_decay" for option in entry.options)
]
RATE = 1e-2

every_apart = pytest.mark.parametrize("name", APART)


def net(name: str) -> LoraNet:
    """Create a network whose B is not 0, so that it decays."""
    if name == "adamw_8bit" and not importlib.util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is not installed")
    model = LoraNet()
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def snapshot(model: LoraNet) -> dict[str, torch.Tensor]:
    return {
        key: value.detach().clone()
        for key, value in model.named_parameters()
        if value.requires_grad
    }


def moved(name: str, steps: int = 1, **options: Any) -> dict[str, torch.Tensor]:
    model = net(name)
    optimizer = create_optimizer(name, model, lr=RATE, **options)
    for _ in range(steps):
        backward(model, task())
        optimizer.step()
    return snapshot(model)


def test_methods_that_train_b_and_a_as_separate_parameters_have_the_options() -> None:
    assert set(APART) == {"adamw", "adamw_8bit", "lora_plus", "scaled_adamw"}
    assert all(map(decays_apart, PACKAGED.values()))


@every_apart
def test_equal_decays_are_the_usual_one_to_the_bit(name: str) -> None:
    usual = moved(name, steps=3, weight_decay=0.5)
    both = moved(name, 3, weight_decay=0.5, weight_decay_b=0.5, weight_decay_a=0.5)
    assert all(torch.equal(usual[key], both[key]) for key in usual)


@every_apart
@pytest.mark.parametrize("factor", ["b", "a"])
def test_one_factor_decays_alone(name: str, factor: str) -> None:
    none, all_of_them = moved(name), moved(name, weight_decay=2.0)
    found = moved(name, **{f"weight_decay_{factor}": 2.0})
    for key, value in found.items():
        mine = f"lora_{factor.upper()}" in key
        expected = all_of_them if mine else none
        assert torch.equal(value, expected[key]), key
    assert any(not torch.equal(found[key], none[key]) for key in found)


@every_apart
def test_other_parameters_keep_weight_decay(name: str) -> None:
    model = net(name)
    model.matrix = torch.nn.Parameter(torch.ones(4, 4))
    options = {"weight_decay": 1.0, "weight_decay_b": 0.0, "weight_decay_a": 0.0}
    optimizer = create_optimizer(name, model, lr=RATE, **options)
    backward(model, task())
    model.matrix.grad = torch.zeros_like(model.matrix)
    optimizer.step()
    assert model.matrix.detach() == pytest.approx((1 - RATE) * torch.ones(4, 4))


@every_apart
def test_resuming_is_exact(name: str) -> None:
    options = {"weight_decay": 0.1, "weight_decay_b": 3.0, "weight_decay_a": 0.0}
    model = net(name)
    optimizer = create_optimizer(name, model, lr=RATE, **options)
    for step in range(4):
        if step == 2:
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            other = copy.deepcopy(model)
        backward(model, task())
        optimizer.step()
    file.seek(0)
    resumed = create_optimizer(name, other, lr=RATE, **options)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(2):
        backward(other, task())
        resumed.step()
    first, second = snapshot(model), snapshot(other)
    assert all(torch.equal(first[key], second[key]) for key in first)


@every_apart
def test_a_state_of_an_older_version_has_no_such_options(name: str) -> None:
    model = net(name)
    optimizer = create_optimizer(name, model, lr=RATE, weight_decay=1.0)
    backward(model, task())
    optimizer.step()
    saved = optimizer.state_dict()
    for group in saved["param_groups"]:
        del group["weight_decay_b"], group["weight_decay_a"]
    fresh = create_optimizer(name, model, lr=RATE, weight_decay=1.0)
    fresh.load_state_dict(saved)
    assert fresh.param_groups[0]["weight_decay_b"] is None
    backward(model, task())
    fresh.step()


def test_factors_are_not_found_without_names() -> None:
    tensors = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizer = create_optimizer("adamw", tensors, lr=RATE, weight_decay_b=1.0)
    tensors[0].grad = torch.ones(3)
    with pytest.raises(OptionError, match=r"weight_decay_b.* no LoRA pairs were found"):
        optimizer.step()


@pytest.mark.parametrize("name", TOGETHER)
def test_methods_that_decay_the_product_refuse_them_with_the_reason(name: str) -> None:
    reason = "because (B stays orthonormal and|the result of a step depends on the pro)"
    with pytest.raises(OptionError, match=f"^weight_decay_b: .* {reason}"):
        create_optimizer(name, LoraNet(), weight_decay_b=0.1)
    optimizer = {"name": name, "weight_decay_a": 0.1}
    with pytest.raises(ValueError, match=rf"optimizer.weight_decay_a: .* {reason}"):
        parse_config({"optimizer": optimizer})


def test_a_decay_of_one_factor_that_changes_its_sign_is_refused() -> None:
    with pytest.raises(OptionError, match=r"weight_decay_b=25 .* lr_ratio=16 is 4"):
        create_optimizer("lora_plus", LoraNet(), lr=RATE, weight_decay_b=25.0)
    create_optimizer("lora_plus", LoraNet(), lr=RATE, weight_decay_a=25.0)
    entry = CATALOGUE["adamw"]
    found = decay_excess(entry, 0.5, {"weight_decay_a": 3.0})
    assert found is not None
    assert found.option == "weight_decay_a"
    assert decay_excess(entry, 0.5, {"weight_decay_a": 2.0}) is None


def test_the_options_in_effect_leave_out_what_is_not_set() -> None:
    shown = repr(create_optimizer("adamw", LoraNet(), weight_decay_b=0.25))
    assert "weight_decay=0, weight_decay_b=0.25, " in shown
    assert "weight_decay_a" not in shown

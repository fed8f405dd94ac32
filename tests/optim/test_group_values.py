"""Values and keys that are written into parameter groups between steps."""

from __future__ import annotations

import copy
import logging

import numpy as np
import pytest
import torch
from catalogue_cases import NAMES, every_method, make, parametrized
from lora_net import LoraNet, backward, snapshot, task

from stiefel_lora import OptionError
from stiefel_lora.optim.group_checks import RESERVED

PAIRED = [name for name in NAMES if name not in ("adamw", "adamw_8bit")]


def trained(name, **given):
    model, batch = LoraNet(), task()
    optimizer = make(name, model, **given)
    backward(model, batch)
    optimizer.step()
    backward(model, batch)
    return model, optimizer


def refused(model, optimizer, match):
    before = [*snapshot(model), *flat(optimizer.state_dict()["state"])]
    with pytest.raises(OptionError, match=match):
        optimizer.step()
    after = [*snapshot(model), *flat(optimizer.state_dict()["state"])]
    assert all(map(torch.equal, before, after))


def flat(value):
    """Copies of the tensors of a state."""
    if isinstance(value, torch.Tensor):
        return [value.clone()]
    if isinstance(value, dict):
        return [tensor for key in value for tensor in flat(value[key])]
    return []


def wrong_values(option):
    if option.choices:
        return ["nothing", 1]
    if option.type is bool:
        return [1, "yes"]
    found = ["0.5", float("nan"), float("inf"), torch.ones(2), True]
    if option.low is not None:
        found += [option.low - 1, torch.tensor(option.low - 1.0)]
    if option.high is not None:
        found.append(np.float64(option.high + 0.5))
    return found if option.optional else [*found, None]


@every_method
def test_every_option_is_checked_at_the_next_step(name):
    model, optimizer = trained(name)
    group = optimizer.param_groups[-1]
    for option in optimizer.entry.options:
        if option.name not in group:
            continue
        good = group[option.name]
        for value in wrong_values(option):
            group[option.name] = value
            refused(model, optimizer, rf"{option.name}=.* in a parameter group must")
        group[option.name] = good
    optimizer.step()


@parametrized(["adamw", "adamw_8bit"])
@pytest.mark.parametrize("betas", [(0.9, 1.5), [-1, 0.9], (0.9,), None, ("a", 0.9)])
def test_betas_are_checked_at_the_next_step(name, betas):
    model, optimizer = trained(name)
    optimizer.param_groups[0]["betas"] = betas
    refused(model, optimizer, "beta.*must be")


@parametrized(["stiefel_lora_factors", "lora_plus"])
def test_a_factor_that_steps_alone_is_checked(name):
    model, optimizer = trained(name)
    group = optimizer.param_groups[0]
    group["weight_decay"] = -0.1
    with pytest.raises(OptionError, match=r"weight_decay=-0\.1 in a parameter group"):
        optimizer.step_parameter(model.first.up, group)


def test_a_list_or_a_tensor_that_changes_in_place_is_checked_again():
    model, optimizer = trained("adamw")
    betas = optimizer.param_groups[0]["betas"] = [0.9, 0.99]
    optimizer.step()
    betas[1] = 1.5
    refused(model, optimizer, "beta2=1.5")
    model, optimizer = trained("stiefel_lora")
    momentum = optimizer.param_groups[0]["momentum"] = torch.tensor(0.5)
    optimizer.step()
    momentum.fill_(2.0)
    refused(model, optimizer, r"momentum=tensor\(2\.\)")


def test_numbers_of_numpy_and_tensors_are_numbers():
    results = []
    for value in (0.5, np.float32(0.5), torch.tensor(0.5), np.float64(0.5)):
        model, optimizer = trained("stiefel_lora")
        optimizer.param_groups[0]["momentum"] = value
        optimizer.step()
        results.append(snapshot(model))
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_a_number_on_another_device_is_not_read():
    _, optimizer = trained("adamw")
    group = optimizer.param_groups[0]
    group["weight_decay"] = torch.tensor(-1.0, device="meta")
    assert optimizer._check_groups()


def test_unchanged_groups_are_not_checked_again():
    _, optimizer = trained("stiefel_lora")
    assert optimizer._check_groups() is False
    optimizer.param_groups[0]["momentum"] = 0.7
    assert optimizer._check_groups() is True
    assert optimizer._check_groups() is False
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer._check_groups() is True
    other = copy.deepcopy(optimizer)
    assert other._check_groups() is True
    assert other._check_groups() is False


def test_choices_of_b_and_a_are_compared_again():
    model = LoraNet()
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    downs = [item for item in named if "lora_A" in item[0]]
    rest = [item for item in named if "lora_A" not in item[0]]
    optimizer = make("stiefel_lora", [{"params": downs}, {"params": rest}])
    backward(model, task())
    optimizer.step()
    optimizer.param_groups[0]["step"] = "factors"
    refused(model, optimizer, "Set the same value in both groups")
    optimizer.param_groups[1]["step"] = "factors"
    optimizer.step()


SWITCHES = ["maximize", "amsgrad", "differentiable", "capturable"]


@pytest.mark.parametrize("key", SWITCHES)
@every_method
def test_a_switch_that_no_method_has_is_refused(name, key):
    with pytest.raises(OptionError, match=f"{key}=True in a parameter group is not"):
        make(name, [{"params": LoraNet().parameters(), key: True}])
    model, optimizer = trained(name)
    optimizer.param_groups[0][key] = True
    refused(model, optimizer, f"{key}=True in a parameter group is not supported")
    optimizer.param_groups[0][key] = False
    optimizer.step()


def messages(caplog):
    return [
        r.getMessage() for r in caplog.records if "in a parameter" in r.getMessage()
    ]


@pytest.mark.parametrize("key", ["foreach", "fused"])
@every_method
def test_a_switch_of_the_implementation_is_noted_once(name, key, caplog):
    _, optimizer = trained(name)
    for value in (True, False):
        optimizer.param_groups[0][key] = value
        optimizer.step()
    (message,) = messages(caplog)
    assert f"{key}=True in a parameter group has no effect" in message


@every_method
def test_an_unknown_key_is_noted_once(name, caplog):
    _, optimizer = trained(name)
    for key in ("momentm_x", "weight_dacay", "weight_dacay", "zzz"):
        optimizer.param_groups[0].pop("zzz", None)
        optimizer.param_groups[0][key] = 0.9
        optimizer.step()
        optimizer.step()
    found = messages(caplog)
    assert len(found) == 3
    assert "'weight_dacay'" in found[1]
    assert "Did you mean 'weight_decay'?" in found[1]


@parametrized(["adamw", "adamw_8bit"])
def test_beta1_beside_betas_is_noted(name, caplog):
    _, optimizer = trained(name)
    optimizer.param_groups[0]["beta1"] = 0.5
    optimizer.step()
    (message,) = messages(caplog)
    assert "'beta1' in a parameter group is not an option and is ignored." in message


@parametrized(PAIRED)
def test_betas_beside_beta1_are_noted(name, caplog):
    _, optimizer = trained(name)
    optimizer.param_groups[0]["betas"] = (0.5, 0.9)
    optimizer.step()
    (message,) = messages(caplog)
    assert "'betas' in a parameter group is not an option and is ignored." in message


@every_method
def test_keys_of_torch_and_trainers_are_silent(name, caplog):
    caplog.set_level(logging.INFO)
    _, optimizer = trained(name)
    group = optimizer.param_groups[0]
    wrapper = {"k", "lr_max", "weight_sum"}  # ScheduleFreeWrapper of sd-scripts
    known = (RESERVED | wrapper) - group.keys() - {"foreach", "fused", *SWITCHES}
    for key in known:
        group[key] = 0.5
    optimizer.step()
    assert not messages(caplog)


@parametrized(["stiefel_lora", "lora_muon"])
def test_schedulers_may_set_the_momentum(name, caplog):
    model, optimizer = trained(name)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.01, total_steps=5
    )
    for _ in range(4):
        backward(model, task())
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["momentum"] > 0.8
    assert not messages(caplog)

"""Parameters stepped one by one, as in a fused back pass."""

from __future__ import annotations

import pytest
import torch
from lora_net import LoraNet, backward, products, snapshot, task
from torch import nn

from stiefel_lora import create_optimizer, init_stiefel_
from stiefel_lora.geometry import orthogonality_error

CASES = [
    ("stiefel_lora", {"step": "factors"}),
    ("stiefel_lora", {"step": "factors", "a_rule": "adamw", "weight_decay": 0.1}),
    ("stiefel_lora", {"step": "factors", "b_rule": "momentum", "a_rule": "sign"}),
    ("lora_plus", {"weight_decay": 0.1}),
]
every_case = pytest.mark.parametrize(("name", "options"), CASES)


def make(name, options, started=True):
    model = LoraNet(dtype=torch.float64)
    if started and name == "stiefel_lora":
        init_stiefel_(model)
    return model, create_optimizer(name, model, lr=1e-2, **options)


def step_one_by_one(optimizer, backwards=False):
    for group in optimizer.param_groups:
        parameters = group["params"][::-1] if backwards else group["params"]
        for index, parameter in enumerate(parameters):
            optimizer.step_parameter(parameter, group, index)
            parameter.grad = None


@every_case
@pytest.mark.parametrize("backwards", [False, True])
def test_one_by_one_is_the_same_step(name, options, backwards):
    batch = task(torch.float64)
    whole, whole_optimizer = make(name, options)
    single, single_optimizer = make(name, options)
    for _ in range(5):
        backward(whole, batch)
        whole_optimizer.step()
        backward(single, batch)
        step_one_by_one(single_optimizer, backwards)
    assert single.shift.abs().max() > 0
    for one, other in zip(snapshot(whole), snapshot(single), strict=True):
        torch.testing.assert_close(one, other, atol=1e-11, rtol=0)


@pytest.mark.parametrize("backwards", [False, True])
def test_the_first_pass_over_a_general_pair_only_sets_the_gauge(backwards):
    model, optimizer = make("stiefel_lora", {"step": "factors"}, started=False)
    for layer in (model.first, model.second):
        nn.init.normal_(layer.lora_B["default"].weight)
    before = products(model)
    for again in (False, True):
        backward(model, task(torch.float64))
        step_one_by_one(optimizer, backwards)
        moved = [
            float((one - other).abs().max())
            for one, other in zip(before, products(model), strict=True)
        ]
        assert (min(moved) > 1e-4) if again else (max(moved) < 1e-12)
        for pair in optimizer.pairs:
            assert orthogonality_error(pair.up.detach()) < 1e-12


def test_hooks_of_a_real_backward_pass_train():
    model, optimizer = make("stiefel_lora", {"step": "factors", "a_rule": "adamw"})
    batch = task(torch.float64)
    start = backward(model, batch)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None

            def hook(tensor, group=group):
                optimizer.step_parameter(tensor, group, 0)
                tensor.grad = None

            parameter.register_post_accumulate_grad_hook(hook)
    for _ in range(60):
        end = backward(model, batch)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert end < 0.7 * start

"""Factors in half precision, moved through float32 copies."""

from __future__ import annotations

import copy

import pytest
import torch
from lora_net import LoraNet, backward, products, task

from stiefel_lora import create_optimizer, init_stiefel_
from stiefel_lora.geometry import orthogonality_error
from stiefel_lora.methods import CATALOGUE
from stiefel_lora.optim.engine.master_weights import MASTER

HALF = (torch.bfloat16, torch.float16)
ORTHONORMAL = ["stiefel_lora", "stella", "riemannion"]
CASES = [
    *((name, {}) for name in ORTHONORMAL),
    ("stiefel_lora", {"step": "factors", "a_rule": "adamw"}),
    ("stiefel_lora", {"step": "factors", "a_rule": "sign", "b_rule": "momentum"}),
]
every_case = pytest.mark.parametrize(("name", "options"), CASES)


def started(dtype, name):
    model = LoraNet()
    init_stiefel_(model)
    if CATALOGUE[name].start == "riemannion":
        for layer in (model.first, model.second, model.third, model.last):
            torch.nn.init.normal_(layer.lora_A["default"].weight, std=0.1)
    return model.to(dtype)


def masters(optimizer):
    return [
        (factor, optimizer.state[factor][MASTER])
        for pair in optimizer.pairs
        for factor in (pair.up, pair.down)
    ]


@pytest.mark.parametrize("dtype", HALF)
@every_case
def test_copies_are_orthonormal_and_parameters_their_rounding(name, options, dtype):
    model = started(dtype, name)
    optimizer = create_optimizer(name, model, lr=1e-2, **options)
    for _ in range(5):
        backward(model, task(dtype))
        optimizer.step()
    for pair in optimizer.pairs:
        assert pair.up.dtype == dtype
        copied = optimizer.state[pair.up][MASTER]
        assert copied.dtype == torch.float32
        assert orthogonality_error(copied) < 1e-5
        assert orthogonality_error(pair.up.detach().float()) < 1e-2
    for factor, master in masters(optimizer):
        assert torch.equal(factor, master.to(dtype))


# Riemannion sorts its columns again, so its entries move by more than the product.
@pytest.mark.parametrize(
    ("name", "options"), [c for c in CASES if c[0] != "riemannion"]
)
def test_steps_far_below_the_spacing_of_bfloat16_add_up(name, options):
    # An entry of size 0.1 has a spacing of 5e-4; these steps are a hundredth of that.
    model = started(torch.bfloat16, name)
    optimizer = create_optimizer(name, model, lr=1e-5, **options)
    backward(model, task(torch.bfloat16))
    optimizer.step()
    first = [master.clone() for _, master in masters(optimizer)]
    for _ in range(3):
        optimizer.step()
    moved = [
        float((master - before).abs().max())
        for (_, master), before in zip(masters(optimizer), first, strict=True)
    ]
    assert all(0 < step < 5e-4 for step in moved)


@every_case
def test_a_resumed_run_has_the_same_bits(name, options):
    batch = task(torch.bfloat16)
    whole = started(torch.bfloat16, name)
    optimizer = create_optimizer(name, whole, lr=1e-2, **options)
    for step in range(6):
        if step == 3:
            saved = copy.deepcopy((whole.state_dict(), optimizer.state_dict()))
        backward(whole, batch)
        optimizer.step()
    model = LoraNet(seed=9).to(torch.bfloat16)
    resumed = create_optimizer(name, model, lr=1e-2, **options)
    model.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    for _ in range(3):
        backward(model, batch)
        resumed.step()
    for (one, master), (other, copied) in zip(
        masters(optimizer), masters(resumed), strict=True
    ):
        assert torch.equal(one, other)
        assert torch.equal(master, copied)


def test_other_weights_replace_the_copies():
    model = started(torch.bfloat16, "stiefel_lora")
    optimizer = create_optimizer("stiefel_lora", model, lr=1e-2)
    for _ in range(2):
        backward(model, task(torch.bfloat16))
        optimizer.step()
    other = started(torch.bfloat16, "stiefel_lora")
    torch.nn.init.normal_(other.first.lora_A["default"].weight)
    model.load_state_dict(other.state_dict())
    optimizer.load_state_dict(optimizer.state_dict())
    before = products(model)
    backward(model, task(torch.bfloat16))
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    for one, now in zip(before, products(model), strict=True):
        # Rounding of two factors, entries up to 4.
        assert (one - now).abs().max() < 0.1


def test_half_precision_steps_one_by_one():
    model = started(torch.bfloat16, "stiefel_lora")
    optimizer = create_optimizer("stiefel_lora", model, lr=1e-2, step="factors")
    for _ in range(3):
        backward(model, task(torch.bfloat16))
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.step_parameter(parameter, group)
    for pair in optimizer.pairs:
        assert orthogonality_error(optimizer.state[pair.up][MASTER]) < 1e-5
        assert pair.down.abs().max() > 0
    for factor, master in masters(optimizer):
        assert torch.equal(factor, master.to(torch.bfloat16))

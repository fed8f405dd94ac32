"""Pairs whose factors differ in dtype or device, and moves to another device."""

from __future__ import annotations

import pytest
import torch
from catalogue_cases import OWN_PRECISION, entry, make, options, parametrized
from torch import nn

from stiefel_lora import OptionError, create_optimizer
from stiefel_lora.optim.engine.settling import follow_device
from stiefel_lora.optim.pairs import Pair

F64, F32 = torch.float64, torch.float32
BF16, F16 = torch.bfloat16, torch.float16
MIXED = [(F64, F32), (F32, F64), (F64, BF16), (BF16, F64), (F32, BF16), (F16, BF16)]
# AdamW has no pairs, and no step of single parameters.
PAIRED = [name for name in OWN_PRECISION if entry(name).name != "adamw"]
ALONE = [name for name in PAIRED if entry(name).steps_alone(options(name))]


def stepped(name, *dtypes, alone=False, cast=None):
    """B A after four steps, and the dtypes of both.

    ``cast`` is the index of the factor that is cast, and its dtype, after two steps.
    """
    generator = torch.Generator().manual_seed(0)

    def numbers(shape):
        # Numbers that every dtype holds, so that every run starts at the same point.
        drawn = torch.randn(shape, generator=generator, dtype=F64)
        return (drawn * 16).round().clamp(-63, 63) / 16

    up, down = (
        nn.Parameter(numbers(shape).to(dtype))
        for shape, dtype in zip([(16, 4), (4, 12)], dtypes, strict=True)
    )
    optimizer = make(name, [("q.lora_A.weight", down), ("q.lora_B.weight", up)], 0.1)
    for step in range(4):
        for index, factor in enumerate((up, down)):
            if cast is not None and step == 2 and cast[0] == index:
                factor.grad = None
                factor.data = factor.data.to(cast[1])
            factor.grad = numbers(factor.shape).to(factor.dtype)
        if not alone:
            optimizer.step()
            continue
        for factor in (up, down):
            optimizer.step_parameter(factor, optimizer.param_groups[0])
    return up.detach().double() @ down.detach().double(), (up.dtype, down.dtype)


def distance(one, other):
    return float((one - other).norm() / other.norm())


def tolerance(dtypes):
    return 2e-2 if {BF16, F16} & set(dtypes) else 1e-4


@pytest.mark.parametrize("dtypes", MIXED, ids=str)
@parametrized(OWN_PRECISION)
def test_both_factors_step_as_in_float64(name, dtypes):
    expected = stepped(name, F64, F64)[0]
    found, kept = stepped(name, *dtypes)
    assert distance(found, expected) < tolerance(dtypes)
    assert kept == dtypes


@pytest.mark.parametrize("dtypes", MIXED, ids=str)
@parametrized(ALONE)
def test_factors_that_step_alone_may_differ_in_dtype(name, dtypes):
    expected = stepped(name, F64, F64, alone=True)[0]
    found = stepped(name, *dtypes, alone=True)[0]
    assert distance(found, expected) < tolerance(dtypes)


@pytest.mark.parametrize("index", [0, 1], ids=["B", "A"])
@pytest.mark.parametrize("dtype", [F64, BF16], ids=str)
@parametrized(OWN_PRECISION)
def test_one_factor_may_be_cast_between_steps(name, dtype, index):
    expected = stepped(name, F32, F32)[0]
    found, kept = stepped(name, F32, F32, cast=(index, dtype))
    assert distance(found, expected) < tolerance([dtype])
    assert kept[index] == dtype


def test_factors_on_two_devices_are_one_error():
    down = nn.Parameter(torch.zeros(4, 12))
    up = nn.Parameter(torch.zeros(16, 4, device="meta"))
    pairs = [("q.lora_A.weight", down), ("q.lora_B.weight", up)]
    optimizer = create_optimizer("stiefel_lora", pairs)
    down.grad, up.grad = torch.zeros_like(down), torch.zeros_like(up)
    with pytest.raises(OptionError, match=r"B of 'q' is on meta, but its A is on cpu"):
        optimizer.step()
    optimizer = create_optimizer("stiefel_lora", pairs, step="factors")
    with pytest.raises(OptionError, match="Move both to the same device"):
        optimizer.step_parameter(down, optimizer.param_groups[0])


def test_the_state_follows_factors_to_another_device():
    # A device that every machine has.
    up = nn.Parameter(torch.zeros(16, 4, device="meta"))
    pair = Pair("q", up, nn.Parameter(torch.zeros(4, 12, device="meta")))
    held = {name: torch.zeros(16, 4) for name in ("momentum_up", "master")}
    state = {up: {**held, "pair_step": torch.ones(())}}
    follow_device(state, pair)
    assert {name: value.device.type for name, value in state[up].items()} == {
        "momentum_up": "meta",
        "master": "meta",
        "pair_step": "cpu",
    }

"""Independence of the results from torch's default dtype."""

from __future__ import annotations

import contextlib
import functools

import pytest
import torch
from catalogue_cases import entry, every_method, make
from lora_net import LoraNet, backward, snapshot, task

from stiefel_lora import init_loi_, init_lora_

DTYPES = [torch.bfloat16, torch.float64]


@contextlib.contextmanager
def default(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def trained(name, dtype):
    """Parameters and state after six steps, one with NaN, and a resume."""
    model, copy = LoraNet(), LoraNet()
    generator = torch.Generator().manual_seed(0)
    with default(dtype):
        init_lora_(model, entry(name).name)
        optimizer = make(name, model)
        for step in range(6):
            for p in model.parameters():
                if p.requires_grad:
                    drawn = torch.randn(
                        p.shape, generator=generator, dtype=torch.float32
                    )
                    p.grad = drawn * torch.nan if step == 2 else drawn
            if name in ("adamw", "adamw_8bit") and step == 2:
                continue  # They have no check of gradients.
            optimizer.step()
            if step == 3:
                # Numbers of steps that bfloat16 cannot hold.
                for held in optimizer.state.values():
                    for key in {"step", "pair_step"} & held.keys():
                        if isinstance(held[key], torch.Tensor):
                            held[key].fill_(301)
                copy.load_state_dict(model.state_dict())
                saved = optimizer.state_dict()
                model, optimizer = copy, make(name, copy)
                optimizer.load_state_dict(saved)
    state = optimizer.state_dict()["state"]
    return [*snapshot(model), *_tensors(state)]


def _tensors(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for key in value:
            yield from _tensors(value[key])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@every_method
def test_steps_have_the_same_bits(name, dtype):
    expected, found = trained(name, torch.float32), trained(name, dtype)
    assert len(expected) == len(found)
    for one, other in zip(expected, found, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one.nan_to_num(), other.nan_to_num())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_skipped_steps_are_counted_past_256(dtype):
    up, down = torch.nn.Parameter(torch.eye(8, 2)), torch.nn.Parameter(torch.ones(2, 8))
    with default(dtype):
        optimizer = make("stiefel_lora", [("q.lora_A", down), ("q.lora_B", up)])
        up.grad, down.grad = torch.full_like(up, torch.nan), torch.ones_like(down)
        for _ in range(300):
            optimizer.step()
        assert optimizer.state_dict()["state"][1]["pair_skipped"] == 300


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_loi_has_the_same_bits(dtype):
    results = []
    for chosen in (torch.float32, dtype):
        model = LoraNet()
        batch = task()
        with default(chosen):
            init_loi_(model, functools.partial(backward, model, batch))
        results.append(snapshot(model))
    assert all(map(torch.equal, *results))

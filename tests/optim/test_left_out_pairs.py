"""Pairs that cannot take a step: gradients that are not finite, and B = 0 met again."""

from __future__ import annotations

import copy
import logging
import math

import pytest
import torch
from catalogue_cases import make, parametrized
from lora_net import LoraNet, backward, products, snapshot, task, train
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from stiefel_lora import create_optimizer
from stiefel_lora.geometry import orthogonality_error
from stiefel_lora.methods import CATALOGUE
from stiefel_lora.optim.engine.gradient_watch import SKIPPED

PAIR_METHODS = [name for name in CATALOGUE if name not in ("adamw", "adamw_8bit")]
ORTHONORMAL = ["stiefel_lora", "stella", "riemannion"]
CASES = [
    *((name, {}) for name in PAIR_METHODS),
    ("stiefel_lora", {"step": "factors", "a_rule": "adamw"}),
    ("stiefel_lora", {"step": "factors", "a_rule": "sign", "b_rule": "momentum"}),
    ("stiefel_lora", {"step": "product"}),
    ("stella", {"base_rule": "sgd"}),
    ("lora_rite", {"escape": True}),
    ("riemannion", {"momentum_form": "orthogonal"}),
]
every_case = pytest.mark.parametrize(("name", "options"), CASES)
# Counters of steps, on the host.
COUNTERS = ("pair_step", "step", SKIPPED)


def held(optimizer, pair):
    """Copies of the factors of a pair and of their moments."""
    found = {"up": pair.up.detach().clone(), "down": pair.down.detach().clone()}
    for role in ("up", "down"):
        for key, value in optimizer.state[getattr(pair, role)].items():
            if key not in COUNTERS:
                found[f"{role}.{key}"] = value.clone()
    return found


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e18])
@every_case
def test_a_pair_is_untouched_and_the_others_step(name, options, value):
    model, batch = LoraNet(), task()
    optimizer = make(name, model, **options)
    train(model, optimizer, 3, batch)
    pair, other = optimizer.pairs[1], optimizer.pairs[2]
    for role in ("up", "down"):
        backward(model, batch)
        getattr(pair, role).grad[1, 1] = value
        before, elsewhere = held(optimizer, pair), held(optimizer, other)
        optimizer.step()
        for key, tensor in held(optimizer, pair).items():
            assert torch.equal(tensor, before[key]), key
        if name != "lora_plus":
            assert not torch.equal(other.up, elsewhere["up"])
        assert all(p.isfinite().all() for p in model.parameters())
    train(model, optimizer, 3, batch)
    assert not torch.equal(pair.up, before["up"])
    assert all(p.isfinite().all() for p in model.parameters())


@every_case
def test_a_bad_first_step_does_no_harm(name, options):
    model, batch = LoraNet(), task()
    optimizer = make(name, model, **options)
    start = backward(model, batch)
    for _ in range(3):
        backward(model, batch)
        for parameter in model.second.parameters():
            parameter.grad = (
                None if parameter.grad is None else parameter.grad * math.nan
            )
        optimizer.step()
    assert train(model, optimizer, 60, batch) < 0.6 * start
    assert all(p.isfinite().all() for p in model.parameters())


@every_case
def test_counts_are_in_the_state_and_warned_about(name, options, caplog, monkeypatch):
    monkeypatch.setattr("stiefel_lora.optim.engine.gradient_watch.EVERY", 10)
    model, batch = LoraNet(), task()
    optimizer = create_optimizer(name, model, lr=1e-4, **options)
    train(model, optimizer, 1, batch)
    for step in range(10):
        backward(model, batch)
        if step in (3, 7):
            optimizer.pairs[0].down.grad[0, 0] = math.nan
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="stiefel_lora"):
            optimizer.step()
    assert [record.message for record in caplog.records] == [
        "The gradients of 1 LoRA pair contained NaN, infinity or numbers above 2e+13. "
        "Number of skipped steps: first (2). Lower the learning rate, or use bfloat16 "
        "or float32."
    ]
    saved = optimizer.state_dict()
    counts = [
        float(state[SKIPPED]) for state in saved["state"].values() if SKIPPED in state
    ]
    assert counts == [2.0]
    resumed = create_optimizer(name, LoraNet(), lr=1e-4, **options)
    resumed.load_state_dict(saved)
    assert resumed._watch.read() == [2, 0, 0, 0]


class Waits(TorchDispatchMode):
    """Counts reads for which a GPU would have to finish."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.count += name in ("_local_scalar_dense", "equal", "nonzero")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("name", "options"),
    [case for case in CASES if case[0] in ("stiefel_lora", "lora_plus")],
)
def test_a_step_waits_for_nothing(name, options):
    model, batch = LoraNet(), task()
    optimizer = make(name, model, **options)
    train(model, optimizer, 3, batch)
    backward(model, batch)
    optimizer.pairs[0].up.grad[0, 0] = math.nan
    with Waits() as waits:
        optimizer.step()
    assert waits.count == 0


@pytest.mark.parametrize("through_data", [False, True])
@pytest.mark.parametrize("name", ORTHONORMAL)
def test_b_zero_met_again_starts_again(name, through_data, caplog):
    """A merge in place zeroes lora_up, and may leave A and the moments as they are."""
    model, batch = LoraNet(), task()
    optimizer = make(name, model)
    train(model, optimizer, 20, batch)
    pair, other = optimizer.pairs[1], optimizer.pairs[2]
    with torch.no_grad():
        (pair.up.data if through_data else pair.up).zero_()
    # Through data the zeros are seen a step later.
    for _ in range(3 if through_data else 2):
        backward(model, batch)
        with caplog.at_level(logging.WARNING, logger="stiefel_lora"):
            optimizer.step()
        moved = products(model)[1]
        # A step's size, not the size that the product had.
        assert torch.linalg.matrix_norm(moved, 2) <= 0.1
    assert orthogonality_error(pair.up.detach()) < 1e-5
    shown = [r.message for r in caplog.records if "is reset" in r.message]
    assert len(shown) == 1
    assert "second" in shown[0]
    assert orthogonality_error(other.up.detach()) < 1e-5
    assert train(model, optimizer, 20, batch) < 1.0


@pytest.mark.parametrize("through_data", [False, True])
def test_a_pair_that_starts_again_is_a_new_pair(through_data):
    """From the step after the gauge on, products are those of a new optimizer.

    What is written through data is seen by the next step only.
    """
    results = []
    for merged in (False, True):
        model, batch = LoraNet(), task()
        optimizer = make("stiefel_lora", model)
        if merged:
            train(model, optimizer, 5, batch)
            fresh = LoraNet().state_dict()
            if through_data:
                for name, parameter in model.named_parameters():
                    parameter.data.copy_(fresh[name])
                backward(model, batch)
                optimizer.step()
            else:
                model.load_state_dict(fresh)
        for _ in range(4):
            backward(model, batch)
            optimizer.step()
        results.append(products(model))
    for one, other in zip(*results, strict=True):
        # The bias outside pairs keeps its AdamW moments, and gradients follow it.
        assert (one - other).norm() <= 2e-2 * one.norm()


@pytest.mark.parametrize("value", [1e14, 1e20])
@every_case
def test_the_limit_is_that_of_the_mathematics(name, options, value):
    """Copies, gradients and other pairs of another dtype do not widen it."""
    for cast in (nn.Module.bfloat16, lambda model: model.third.double()):
        model = LoraNet()
        cast(model)
        optimizer = make(name, model, **options)
        for step in range(6):
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, 0.1)
            if step == 3:
                optimizer.pairs[1].up.grad[1, 1] = value
            optimizer.step()
        assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("dtype", "through_data"),
    [(torch.bfloat16, False), (torch.bfloat16, True), (torch.float16, True)],
)
@every_case
def test_a_copy_follows_a_factor_that_was_set_to_zero(
    name, options, dtype, through_data
):
    """Otherwise a merged product comes back at full size with the next rounding."""
    model, batch = LoraNet(dtype=dtype), task(dtype)
    optimizer = make(name, model, **options)
    train(model, optimizer, 20, batch)
    pair = optimizer.pairs[1]
    for group in optimizer.param_groups:
        group["lr"] *= 1e-2
    with torch.no_grad():
        (pair.up.data if through_data else pair.up).zero_()
    for _ in range(3):
        backward(model, batch)
        optimizer.step()
        assert torch.linalg.matrix_norm(products(model)[1], 2) <= 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [0.1, 0.5, 2.0])
@parametrized([*ORTHONORMAL, "stiefel_lora_factors"])
def test_factors_that_a_trainer_rescales_keep_their_product(name, size, dtype):
    """A limit on norms, or averaged weights that are put in their place."""
    model, batch = LoraNet(dtype=dtype), task(dtype)
    optimizer = make(name, model)
    train(model, optimizer, 20, batch)
    for group in optimizer.param_groups:
        group["lr"] = 1e-5
    with torch.no_grad():
        for pair in optimizer.pairs:
            pair.up.mul_(size)
    before = products(model)
    for _ in range(2):
        backward(model, batch)
        optimizer.step()
    error = 1e-2 if dtype == torch.bfloat16 else 1e-3
    for new, old in zip(products(model), before, strict=True):
        assert (new - old).norm() <= error * old.norm()


def test_a_fused_backward_pass_starts_merged_pairs_again(caplog):
    model, batch = LoraNet(), task()
    optimizer = make("stiefel_lora_factors", model)
    for step in range(8):
        if step == 4:
            with torch.no_grad():
                for pair in optimizer.pairs:
                    pair.up.zero_()
        backward(model, batch)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.step_parameter(parameter, group)
        if step == 4:
            assert all(not product.any() for product in products(model))
    assert all(orthogonality_error(p.up.detach()) < 1e-5 for p in optimizer.pairs)
    assert all(product.any() for product in products(model))
    shown = [r.message for r in caplog.records if "is reset" in r.message]
    assert [text.split(" LoRA")[0] for text in shown] == ["B of 4"]


@parametrized([*ORTHONORMAL, "stiefel_lora_factors"])
def test_copies_know_what_was_seen(name):
    model, batch = LoraNet(), task()
    optimizer = make(name, model)
    train(model, optimizer, 3, batch)
    optimizer.pairs[1].up.data.zero_()
    backward(model, batch)
    optimizer.step()
    twin, other = copy.deepcopy((model, optimizer))
    for one, steps in ((model, optimizer), (twin, other)):
        train(one, steps, 3, batch)
    for mine, theirs in zip(snapshot(model), snapshot(twin), strict=True):
        assert torch.equal(mine, theirs)


def test_another_group_keeps_the_counts():
    model, batch = LoraNet(), task()
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    parts = [[e for e in named if e[0].startswith(n)] for n in ("first", "last")]
    optimizer = make("stiefel_lora", [{"params": parts[0]}])
    train(model, optimizer, 2, batch)
    backward(model, batch)
    optimizer.pairs[0].up.grad[0, 0] = math.nan
    optimizer.step()
    optimizer.add_param_group({"params": parts[1]})
    assert optimizer._watch.read() == [1, 0]

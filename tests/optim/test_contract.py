"""What every method must do; a new method is tested by being in the catalogue."""

from __future__ import annotations

import copy
import inspect
import io

import pytest
import torch
from catalogue_cases import (
    OWN_PRECISION,
    entry,
    every_method,
    make,
    options,
    parametrized,
)
from lora_net import LoraNet, backward, products, snapshot, task, train

from stiefel_lora import OptionError, create_optimizer
from stiefel_lora.methods import CATALOGUE


@parametrized(CATALOGUE)
def test_constructor_and_catalogue_agree(name):
    parameters = inspect.signature(entry(name).load()).parameters
    defaults = {
        key: value.default
        for key, value in parameters.items()
        if value.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert defaults == entry(name).defaults()
    assert parameters["lr"].default == entry(name).default_lr
    # sd-scripts sends class names with these endings into branches of its own.
    assert not entry(name).load().__name__.lower().endswith(("8bit", "schedulefree"))


@every_method
def test_it_learns(name):
    model, batch = LoraNet(), task()
    start = backward(model, batch)
    end = train(model, make(name, model), 150, batch)
    assert end < 0.35 * start


@every_method
def test_state_survives_a_file_and_resumes_to_the_bit(name):
    batch = task()
    whole = LoraNet()
    optimizer = make(name, whole)
    for _ in range(8):
        backward(whole, batch)
        optimizer.step()

    half = LoraNet()
    optimizer = make(name, half)
    for _ in range(4):
        backward(half, batch)
        optimizer.step()
    file = io.BytesIO()
    torch.save({"model": half.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    fresh = LoraNet(seed=9)
    resumed = make(name, fresh)
    fresh.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    for _ in range(4):
        backward(fresh, batch)
        resumed.step()
    for one, other in zip(snapshot(whole), snapshot(fresh), strict=True):
        assert torch.equal(one, other)


@every_method
def test_a_deep_copy_goes_on_by_itself(name):
    model, batch = LoraNet(), task()
    optimizer = make(name, model)
    backward(model, batch)
    optimizer.step()
    twin_model, twin = copy.deepcopy((model, optimizer))
    for net, opt in ((model, optimizer), (twin_model, twin)):
        backward(net, batch)
        opt.step()
    for one, other in zip(snapshot(model), snapshot(twin_model), strict=True):
        assert torch.equal(one, other)


@every_method
def test_zero_gradients_leave_a_fresh_product_alone(name):
    model = LoraNet()
    optimizer = make(name, model)
    before = products(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(3):
        optimizer.step()
    for one, other in zip(before, products(model), strict=True):
        assert (one - other).abs().max() <= 1e-7


@every_method
def test_gradients_stay_as_the_caller_left_them(name):
    model, batch = LoraNet(), task()
    optimizer = make(name, model)
    backward(model, batch)
    trainable = [p for p in model.parameters() if p.requires_grad]
    before = [p.grad.clone() for p in trainable]
    optimizer.step()
    for parameter, gradient in zip(trainable, before, strict=True):
        assert torch.equal(parameter.grad, gradient)


@every_method
def test_a_pair_without_gradients_is_left_alone(name):
    model, batch = LoraNet(), task()
    optimizer = make(name, model)
    train(model, optimizer, 2, batch)
    backward(model, batch)
    for parameter in model.second.parameters():
        parameter.grad = None
    before = [p.clone() for p in model.second.parameters()]
    elsewhere = model.first.lora_A["default"].weight.clone()
    optimizer.step()
    for one, other in zip(before, model.second.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(elsewhere, model.first.lora_A["default"].weight)


@every_method
def test_the_order_of_named_parameters_is_irrelevant(name):
    batch = task()
    results = []
    for reverse in (False, True):
        model = LoraNet()
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        optimizer = make(name, named[::-1] if reverse else named)
        train(model, optimizer, 5, batch)
        results.append(snapshot(model))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@every_method
def test_it_accepts_what_hosts_pass(name):
    model, batch = LoraNet(), task()
    named = dict((n, p) for n, p in model.named_parameters() if p.requires_grad)
    cls, chosen = entry(name).load(), options(name)
    for params in (
        named.values(),
        iter(named.values()),
        [{"params": named.values(), "lr": 1e-3, "name": "unet", "initial_lr": 1e-3}],
        [{"params": iter(named.items())}],
    ):
        optimizer = cls(params, lr=1e-3, **chosen)
        backward(model, batch)
        optimizer.step()


@every_method
def test_a_closure_is_called_once_with_gradients_enabled(name):
    model, batch = LoraNet(), task()
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        return backward(model, batch)

    loss = make(name, model).step(closure)
    assert calls == [True]
    assert loss > 0


@every_method
def test_schedulers_drive_the_rate(name):
    model, batch = LoraNet(), task()
    optimizer = make(name, model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    backward(model, batch)
    optimizer.step()
    before = products(model)
    scheduler.step()
    backward(model, batch)
    optimizer.step()
    for one, other in zip(before, products(model), strict=True):
        assert (one - other).abs().max() <= 1e-7


@parametrized(OWN_PRECISION)
def test_float64_stays_float64(name):
    model = LoraNet(dtype=torch.float64)
    optimizer = make(name, model)
    train(model, optimizer, 2)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    moments = [v for s in optimizer.state.values() for k, v in s.items() if v.dim() > 1]
    assert {value.dtype for value in moments} == {torch.float64}


@every_method
def test_an_unknown_option_names_the_nearest(name):
    with pytest.raises(OptionError, match="did you mean 'weight_decay'"):
        make(name, LoraNet(), weight_dacay=0.1)


@every_method
def test_a_value_out_of_bounds_is_refused(name):
    with pytest.raises(OptionError, match=r"beta1=1.5 must be in \[0, 1\)"):
        make(name, LoraNet(), beta1=1.5)


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(OptionError, match="did you mean 'stiefel_lora'"):
        create_optimizer("stiefel", LoraNet())


def test_nothing_to_optimise_is_a_sentence():
    with pytest.raises(OptionError, match="was given no parameters"):
        create_optimizer("adamw", LoraNet().requires_grad_(False))


@every_method
def test_autocast_around_a_step_and_a_load_changes_nothing(name):
    results = []
    for enabled in (False, True):
        model, batch = LoraNet(), task()
        optimizer = make(name, model)
        for _ in range(2):
            for _ in range(3):
                backward(model, batch)
                with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                    optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
        results.append(snapshot(model))
    assert all(map(torch.equal, *results))

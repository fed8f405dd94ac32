"""Requirements of every method, as functions that raise AssertionError.

The tests of this package apply them to the methods of the catalogue.
:func:`~stiefel_lora.testing.check_method` applies them to other methods.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import io
from collections.abc import Callable
from typing import Any

import torch

from .._exceptions import OptionError
from ..methods import Method, Option, method
from ..optim import LoraOptimizer, create_optimizer
from .nets import LoraNet, backward, products, snapshot, task, train

__all__ = ["CHECKS", "LEARNED", "Case"]

LEARNED = 0.35
"""Fraction of the initial loss that the loss of :func:`it_learns` must fall below."""

_LEARNING_STEPS = 150


@dataclasses.dataclass(frozen=True)
class Case:
    """Optimizer class with options and a learning rate for small test problems."""

    cls: type[LoraOptimizer]
    lr: float
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def entry(self) -> Method:
        """Catalogue entry of the method."""
        return method(self.cls.method)

    def make(self, params: Any, **given: Any) -> LoraOptimizer:
        """Create the optimizer with the additional options ``given``."""
        build: Callable[..., LoraOptimizer] = self.cls
        return build(params, lr=self.lr, **{**self.options, **given})


def constructor_and_catalogue_agree(case: Case) -> None:
    """Constructor arguments and default learning rate match the catalogue entry."""
    parameters = inspect.signature(case.cls).parameters
    defaults = {
        key: value.default
        for key, value in parameters.items()
        if value.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert defaults == case.entry.defaults()
    assert parameters["lr"].default == case.entry.default_lr
    # sd-scripts handles class names with these endings by its own special cases.
    assert not case.cls.__name__.lower().endswith(("8bit", "schedulefree"))


def it_learns(case: Case) -> None:
    """150 steps reduce the loss of a small network below 35 % of its initial value."""
    model, batch = LoraNet(), task()
    start = backward(model, batch)
    end = train(model, case.make(model), _LEARNING_STEPS, batch)
    assert end < LEARNED * start, f"the loss went from {start:g} to {end:g}"


def state_survives_a_file_and_resumes_to_the_bit(case: Case) -> None:
    """Saving and loading after four of eight steps does not change the result."""
    batch = task()
    whole = LoraNet()
    optimizer = case.make(whole)
    for _ in range(8):
        backward(whole, batch)
        optimizer.step()

    half = LoraNet()
    optimizer = case.make(half)
    for _ in range(4):
        backward(half, batch)
        optimizer.step()
    file = io.BytesIO()
    torch.save({"model": half.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    fresh = LoraNet(seed=9)
    resumed = case.make(fresh)
    fresh.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    for _ in range(4):
        backward(fresh, batch)
        resumed.step()
    _assert_same(whole, fresh)


def a_deep_copy_is_independent(case: Case) -> None:
    """A deep copy of the model and optimizer takes bitwise the same step."""
    model, batch = LoraNet(), task()
    optimizer = case.make(model)
    backward(model, batch)
    optimizer.step()
    twin_model, twin = copy.deepcopy((model, optimizer))
    for net, opt in ((model, optimizer), (twin_model, twin)):
        backward(net, batch)
        opt.step()
    _assert_same(model, twin_model)


def zero_gradients_leave_a_fresh_product_alone(case: Case) -> None:
    """With gradients of zero, no product changes by more than 1e-7."""
    model = LoraNet()
    optimizer = case.make(model)
    before = products(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(3):
        optimizer.step()
    _assert_products_stay(before, model)


def gradients_stay_as_the_caller_left_them(case: Case) -> None:
    """A step does not change gradients."""
    model, batch = LoraNet(), task()
    optimizer = case.make(model)
    backward(model, batch)
    trainable = [p for p in model.parameters() if p.requires_grad]
    before = [_gradient(p).clone() for p in trainable]
    optimizer.step()
    for parameter, gradient in zip(trainable, before, strict=True):
        assert torch.equal(_gradient(parameter), gradient)


def a_pair_without_gradients_is_left_alone(case: Case) -> None:
    """A pair whose gradients are None is not updated."""
    model, batch = LoraNet(), task()
    optimizer = case.make(model)
    train(model, optimizer, 2, batch)
    backward(model, batch)
    for parameter in model.second.parameters():
        parameter.grad = None
    before = [p.clone() for p in model.second.parameters()]
    elsewhere = model.first.down.clone()
    optimizer.step()
    for one, other in zip(before, model.second.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(elsewhere, model.first.down)


def the_order_of_named_parameters_is_irrelevant(case: Case) -> None:
    """The order of the parameters has no effect on the trained factors."""
    batch = task()
    results = []
    for reverse in (False, True):
        model = LoraNet()
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        optimizer = case.make(named[::-1] if reverse else named)
        train(model, optimizer, 5, batch)
        results.append(snapshot(model))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def it_accepts_what_hosts_pass(case: Case) -> None:
    """Views, iterators, parameter groups and names in groups are accepted."""
    model, batch = LoraNet(), task()
    named = dict((n, p) for n, p in model.named_parameters() if p.requires_grad)
    for params in (
        named.values(),
        iter(named.values()),
        [{"params": named.values(), "lr": 1e-3, "name": "unet", "initial_lr": 1e-3}],
        [{"params": iter(named.items())}],
    ):
        optimizer = dataclasses.replace(case, lr=1e-3).make(params)
        backward(model, batch)
        optimizer.step()


def a_closure_is_called_once_with_gradients_enabled(case: Case) -> None:
    """``step`` returns what the closure returns."""
    model, batch = LoraNet(), task()
    calls = []

    def closure() -> float:
        calls.append(torch.is_grad_enabled())
        return backward(model, batch)

    loss: Any = case.make(model).step(closure)
    assert calls == [True]
    assert loss > 0


def schedulers_drive_the_rate(case: Case) -> None:
    """With a learning rate of 0 by a scheduler, no product changes."""
    model, batch = LoraNet(), task()
    optimizer = case.make(model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    backward(model, batch)
    optimizer.step()
    before = products(model)
    scheduler.step()
    backward(model, batch)
    optimizer.step()
    _assert_products_stay(before, model)


def float64_stays_float64(case: Case) -> None:
    """Factors and moments of a float64 model are float64."""
    model = LoraNet(dtype=torch.float64)
    optimizer = case.make(model)
    train(model, optimizer, 2)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    moments = [v for s in optimizer.state.values() for k, v in s.items() if v.dim() > 1]
    assert {value.dtype for value in moments} <= {torch.float64}


def autocast_around_a_step_and_a_load_changes_nothing(case: Case) -> None:
    """Steps inside autocast are identical to steps outside of it."""
    results = []
    for enabled in (False, True):
        model, batch = LoraNet(), task()
        optimizer = case.make(model)
        for _ in range(2):
            for _ in range(3):
                backward(model, batch)
                with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                    optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
        results.append(model)
    _assert_same(*results)


def pairs_are_those_of_the_model(case: Case) -> None:
    """``pairs`` contains every LoRA layer of the model, in order."""
    names = [pair.name for pair in case.make(LoraNet()).pairs]
    assert names == ["first", "second", "third", "last"]


def an_option_that_is_misspelled_is_refused(case: Case) -> None:
    """The error suggests the nearest option."""
    names = [option.name for option in case.entry.options]
    wrong = f"{names[0]}_" if names else "no_such_option"
    message = _refusal(case, **{wrong: 0})
    assert repr(wrong) in message
    assert not names or f"Did you mean {names[0]!r}" in message


def a_value_out_of_bounds_is_refused(case: Case) -> None:
    """Every option with bounds rejects values out of bounds."""
    for option in case.entry.options:
        for value in _beyond(option):
            assert f"{option.name}={value!r}" in _refusal(case, **{option.name: value})


CHECKS: tuple[Callable[[Case], None], ...] = (
    constructor_and_catalogue_agree,
    pairs_are_those_of_the_model,
    it_learns,
    state_survives_a_file_and_resumes_to_the_bit,
    a_deep_copy_is_independent,
    zero_gradients_leave_a_fresh_product_alone,
    gradients_stay_as_the_caller_left_them,
    a_pair_without_gradients_is_left_alone,
    the_order_of_named_parameters_is_irrelevant,
    it_accepts_what_hosts_pass,
    a_closure_is_called_once_with_gradients_enabled,
    schedulers_drive_the_rate,
    float64_stays_float64,
    autocast_around_a_step_and_a_load_changes_nothing,
    an_option_that_is_misspelled_is_refused,
    a_value_out_of_bounds_is_refused,
)


def _beyond(option: Option) -> list[Any]:
    if option.choices:
        return ["no such choice"]
    found = [] if option.high is None else [option.type(option.high + 1)]
    return found if option.low is None else [*found, option.type(option.low - 1)]


def _refusal(case: Case, **given: Any) -> str:
    try:
        create_optimizer(case.entry.name, LoraNet(), **{**case.options, **given})
    except OptionError as error:
        return str(error)
    raise AssertionError(f"{given} is accepted")


def _gradient(parameter: torch.Tensor) -> torch.Tensor:
    assert parameter.grad is not None, "a gradient was removed"
    return parameter.grad


def _assert_same(model: LoraNet, other: LoraNet) -> None:
    for one, two in zip(snapshot(model), snapshot(other), strict=True):
        assert torch.equal(one, two), "bits differ"


def _assert_products_stay(before: list[torch.Tensor], model: LoraNet) -> None:
    for one, other in zip(before, products(model), strict=True):
        assert (one - other).abs().max() <= 1e-7, "a product moved"

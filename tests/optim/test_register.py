"""register: records and constructors from one place, and what it refuses."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from lora_net import LoraNet, backward, snapshot, task, train

from helpers.plugin_methods import forgetting_plugins
from stiefel_lora import (
    CheckpointError,
    Option,
    OptionError,
    PairOptimizer,
    Rule,
    StiefelLoRA,
    create_optimizer,
    register,
)
from stiefel_lora.methods import CATALOGUE

MOMENTUM = Option("momentum", 0.9, low=0, high=1, doc="Decay of the momentum.")


@pytest.fixture(autouse=True)
def forget():
    with forgetting_plugins():
        yield


class Descent(Rule):
    """Steepest descent; what the batch was is kept for the tests."""

    def update(self, batch):
        self.seen = batch
        batch.up = batch.up - batch.lr_up * batch.grad_up
        batch.down = batch.down - batch.lr_down * batch.grad_down


def registered(*, base=PairOptimizer, rule=Descent, given=None, **record):
    """A class with its record; ``given`` are more attributes."""
    attributes = {"rule": rule, **(given or {})}
    if rule is None:
        del attributes["rule"]
    cls = type(record.pop("class_name", "Plain"), (base,), attributes)
    usual = {"label": "Plain", "summary": "Descent.", "default_lr": 0.1}
    return register(**usual | record)(cls)


def test_the_constructor_is_made_of_the_record():
    size = Option("size", 2, low=1, doc="Size.")
    cls = registered(options=(MOMENTUM, size), default_lr=0.25)
    parameters = inspect.signature(cls).parameters
    assert [*parameters] == ["params", "lr", "momentum", "size"]
    assert parameters["lr"].default == 0.25
    assert parameters["momentum"].kind is inspect.Parameter.KEYWORD_ONLY
    assert "momentum: Decay of the momentum." in cls.__init__.__doc__
    optimizer = cls(LoraNet(), size=3)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["momentum"], group["size"]) == (0.25, 0.9, 3)
    assert CATALOGUE["plain"].load() is cls
    with pytest.raises(OptionError, match="Did you mean 'momentum'"):
        cls(LoraNet(), momentun=0.5)
    with pytest.raises(OptionError, match="must be an integer"):
        cls(LoraNet(), size=1.5)


def test_options_reach_the_rule_by_their_kind():
    options = (
        MOMENTUM,
        Option("size", 2, doc="Size."),
        Option("form", "full", choices=("full", "thin"), doc="Form."),
        Option("warm", True, doc="Warm."),
        Option("bound", None, type=float, optional=True, low=0, doc="Bound."),
    )
    model = LoraNet()
    optimizer = registered(options=options)(model, bound=0.5, form="thin")
    backward(model, task())
    optimizer.step()
    seen = optimizer.rule.seen
    assert seen.choices == {"form": "thin", "warm": True, "bound": 0.5}
    assert set(seen.numbers) == {"momentum", "size"}
    assert seen.numbers["momentum"].flatten()[0] == pytest.approx(0.9)


def test_a_rule_without_options_trains_and_resumes():
    batch = task()
    registered()
    whole = LoraNet()
    optimizer = create_optimizer("plain", whole, lr=1.0)
    start = backward(whole, batch)
    assert train(whole, optimizer, 100, batch) < 0.35 * start
    fresh = LoraNet()
    fresh.load_state_dict(whole.state_dict())
    resumed = create_optimizer("plain", fresh, lr=1.0)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for model, one in ((whole, optimizer), (fresh, resumed)):
        backward(model, batch)
        one.step()
    for one, other in zip(snapshot(whole), snapshot(fresh), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["damping", "lr_ratio", "momentum"])
def test_an_option_of_a_built_in_name_takes_no_state_away(name):
    registered(options=(Option(name, 0.5, doc="Shared."),))
    registered(label="Other", class_name="Other", options=(MOMENTUM,))
    model, batch = LoraNet(), task()
    for method in ("plain", "scaled_adamw", "lora_plus", "stiefel_lora"):
        optimizer = create_optimizer(method, model)
        backward(model, batch)
        optimizer.step()
        state = copy.deepcopy(optimizer.state_dict())
        create_optimizer(method, model).load_state_dict(state)
        others = {"lora_plus": "scaled_adamw", "scaled_adamw": "lora_plus"}
        if method != "plain":
            with pytest.raises(CheckpointError):
                create_optimizer(others.get(method, "other"), model).load_state_dict(
                    state
                )


def test_a_class_may_extend_a_built_in_method():
    class Halved(type(StiefelLoRA.rule)):
        def numbers(self, group):
            found = super().numbers(group)
            return found | {"momentum": 0.5 * found["momentum"]}

    options = CATALOGUE["stiefel_lora"].options
    cls = registered(base=StiefelLoRA, rule=Halved, options=options, label="Half")
    assert CATALOGUE["half"].start == "stiefel"
    assert StiefelLoRA.rule.options == ()
    model = LoraNet()
    train(model, cls(model, lr=2e-2), 2)


def test_the_rule_of_a_base_class_keeps_its_options():
    first = registered(options=(MOMENTUM,))
    second = registered(base=first, rule=None, label="Second", class_name="Second")
    assert first.rule.options == (MOMENTUM,)
    assert second.rule.options == ()
    assert (first.method, second.method) == ("plain", "second")


def test_a_class_that_is_registered_again_replaces_itself():
    registered(default_lr=0.1)
    registered(default_lr=0.2)
    assert CATALOGUE["plain"].default_lr == 0.2
    registered(label="Renamed")
    assert "plain" not in CATALOGUE
    assert "renamed" in CATALOGUE


class Idle(Rule):
    """Moves nothing."""


REFUSED = [
    ({"base": torch.optim.SGD}, "Plain is not a subclass of PairOptimizer"),
    ({"rule": None}, "Plain has no rule. Define class rule"),
    ({"rule": 3}, "Plain has no rule"),
    ({"rule": Idle}, "rule of Plain does not update any factor"),
    ({"given": {"__init__": lambda self: None}}, "Plain defines __init__"),
    ({"class_name": "Plain8bit"}, "are reserved for the optimizers of sd-scripts"),
    ({"label": "LoRA-RITE"}, "'lora_rite' is already used by the built-in optimizer"),
    ({"name": "x", "label": "adamw"}, "'adamw' is already used by the built-in"),
    ({"name": "Has Space"}, "'Has Space' cannot be used in a configuration"),
    ({"label": "8 ball"}, "'8_ball' cannot be used"),
    ({"default_lr": 0}, "must be a number above 0, but got 0"),
    ({"default_lr": float("nan")}, "must be a number above 0, but got nan"),
    ({"options": (MOMENTUM, MOMENTUM)}, "'momentum' is defined twice"),
    ({"options": (Option("lr", 0.1, doc=""),)}, "'lr' is reserved"),
    ({"options": (Option("class", 0.1, doc=""),)}, "'class' is not a valid"),
    (
        {"options": (Option("a", None, doc=""),)},
        "'a' has a default from which no type can",
    ),
    ({"options": (Option("a", "x", doc=""),)}, "'a' is a string without choices"),
    ({"options": (Option("a", 2.0, high=1, doc=""),)}, "2.0, which must be in"),
    ({"options": (Option("a", float("inf"), doc=""),)}, "inf, which must be in"),
    (
        {"options": (Option("a", "z", choices=("x", "y"), doc=""),)},
        "'z', which must be one of x, y",
    ),
]


@pytest.mark.parametrize(("record", "message"), REFUSED)
def test_a_record_that_cannot_be(record, message):
    before = dict(CATALOGUE)
    with pytest.raises(OptionError) as caught:
        registered(**record)
    assert message in str(caught.value)
    assert before == CATALOGUE

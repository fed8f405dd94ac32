"""States that cannot be loaded leave the optimizer as it was."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from catalogue_cases import every_method, make, parametrized
from lora_net import LoraNet, backward, snapshot, task
from torch import nn

from stiefel_lora import CheckpointError, OptionError

PAIRED = [
    *("stiefel_lora", "stiefel_lora_factors", "stella", "lora_rite", "riemannion"),
    *("lora_muon", "lora_tsd", "polora", "whitened_lora", "scaled_adamw"),
]


def net(rank, out, into, kernel=0):
    """Names and factors of one layer."""
    generator = torch.Generator().manual_seed(0)
    tail = (1, 1) if kernel else ()
    down = torch.randn(rank, into, *([kernel] * len(tail)), generator=generator)
    up = torch.randn(out, rank, *tail, generator=generator)
    return [
        ("q.lora_A.weight", nn.Parameter(down)),
        ("q.lora_B.weight", nn.Parameter(up)),
    ]


def stepped(name, named, steps=2):
    optimizer = make(name, named)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for _, factor in named:
            factor.grad = torch.randn(factor.shape, generator=generator)
        optimizer.step()
    return optimizer


def same(one, other):
    """Return whether two state dicts are equal to the bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def refuse(optimizer, state, kind=CheckpointError, match=None):
    before = copy.deepcopy(optimizer.state_dict())
    kept = [group for group in optimizer.param_groups]
    with pytest.raises(kind, match=match) as caught:
        optimizer.load_state_dict(state)
    assert same(before, optimizer.state_dict())
    assert all(a is b for a, b in zip(kept, optimizer.param_groups, strict=True))
    return str(caught.value)


SHAPES = [
    # (rank, out, in, kernel) of the saved layer and of the layer that gets the state.
    ((4, 4, 12, 0), (4, 16, 12, 0)),  # B is r x r, as a core
    ((4, 16, 4, 0), (4, 16, 12, 0)),  # A is r x r, as a core
    ((4, 4, 4, 0), (4, 16, 4, 0)),
    ((3, 8, 6, 3), (3, 8, 6, 1)),  # convolutions with another kernel
    ((3, 8, 6, 3), (3, 8, 9, 3)),
    ((3, 3, 6, 3), (3, 8, 6, 3)),  # the state of B is r x r x 1 x 1
    ((4, 16, 12, 0), (3, 16, 12, 0)),  # another rank: the cores differ, too
    ((4, 16, 12, 0), (4, 12, 16, 0)),
]


@pytest.mark.parametrize(("saved", "into"), SHAPES, ids=str)
@parametrized(PAIRED)
def test_a_state_of_another_shape(name, saved, into):
    state = stepped(name, net(*saved)).state_dict()
    optimizer = stepped(name, net(*into))
    message = refuse(optimizer, state)
    assert "Use the same layers and ranks" in message
    assert re.search(r"'q\.lora_[AB]\.weight'", message)


@parametrized(PAIRED)
def test_a_state_of_the_other_factor(name):
    # All matrices are square, so that no shape shows that B and A are swapped.
    named = net(4, 4, 4)
    state = stepped(name, named).state_dict()
    optimizer = stepped(name, net(4, 4, 4)[::-1])
    message = refuse(optimizer, state)
    assert "which is a state of the other factor of the LoRA" in message


@parametrized(PAIRED)
def test_every_state_of_another_shape_by_name(name):
    optimizer = stepped(name, net(4, 16, 12))
    good = optimizer.state_dict()
    for index, held in good["state"].items():
        for key in held:
            for shape in ((4, 4), (1, 1), (2, 2), (16,), (), (5, 7)):
                wrong = torch.ones(shape)
                if (
                    held[key].shape == wrong.shape
                    or wrong.numel() == 1 >= held[key].numel()
                ):
                    continue
                bad = copy.deepcopy(good)
                bad["state"][index][key] = wrong
                assert refuse(optimizer, bad).startswith("state_dict: the state of")
            bad = copy.deepcopy(good)
            bad["state"][index][key] = "text"
            assert f"{key}='text'" in refuse(optimizer, bad)
    optimizer.load_state_dict(good)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), torch.ones(2)])
@pytest.mark.parametrize("key", ["step", "pair_step", "pair_skipped"])
@parametrized(["stiefel_lora", "stella", "lora_plus", "adamw"])
def test_a_count_that_is_none(name, key, value):
    optimizer = stepped(name, net(4, 16, 12))
    bad = copy.deepcopy(optimizer.state_dict())
    bad["state"].setdefault(1, {})[key] = torch.as_tensor(value)
    assert f"{key}=" in refuse(optimizer, bad, match="must be a number of steps")


BAD = [
    ("lr", -1.0, r"lr must be in \[0, inf\), but got -1\.0"),
    ("lr", float("nan"), r"lr must be in \[0, inf\), but got nan"),
    ("lr", "0.1", r"lr must be in \[0, inf\), but got '0\.1'"),
    ("weight_decay", -0.5, r"weight_decay=-0\.5 in a parameter group must be in"),
    ("weight_decay", "0.1", r"weight_decay='0\.1' in a parameter group must be a numb"),
    ("eps", float("nan"), r"eps=nan in a parameter group must be in"),
    ("maximize", True, r"maximize=True in a parameter group is not supported"),
    ("capturable", True, r"capturable=True in a parameter group is not supported"),
]


def with_value(state, key, value):
    changed = copy.deepcopy(state)
    changed["param_groups"][-1][key] = value
    return changed


@pytest.mark.parametrize(("key", "value", "match"), BAD)
@every_method
def test_a_value_out_of_bounds(name, key, value, match):
    named = net(4, 16, 12)
    optimizer = stepped(name, named)
    refuse(optimizer, with_value(optimizer.state_dict(), key, value), match=match)


@parametrized(["stiefel_lora", "stella", "riemannion", "lora_rite", "adamw"])
def test_every_choice_and_bound(name):
    optimizer = stepped(name, net(4, 16, 12))
    state = optimizer.state_dict()
    for option in optimizer.entry.options:
        if option.name not in state["param_groups"][0]:
            continue
        wrong = "nothing" if option.choices else 1 if option.type is bool else -1.0
        match = rf"{option.name}={wrong!r} in a parameter group must be"
        refuse(optimizer, with_value(state, option.name, wrong), match=match)


@pytest.mark.parametrize("betas", [(0.9, 2.0), (0.9,), "ab", None, (0.9, "x")])
@parametrized(["adamw", "adamw_8bit"])
def test_betas_of_adamw(name, betas):
    optimizer = stepped(name, net(4, 16, 12))
    refuse(optimizer, with_value(optimizer.state_dict(), "betas", betas), match="beta")


def test_other_choices_for_the_two_factors():
    named = net(4, 16, 12)
    groups = [{"params": named[:1]}, {"params": named[1:]}]
    optimizer = make("stiefel_lora", groups)
    state = copy.deepcopy(optimizer.state_dict())
    for group, step in zip(state["param_groups"], ("factors", "product"), strict=True):
        group["step"] = step
    refuse(optimizer, state, OptionError, "is in a group with step='factors', but its")


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["state"].update({0: None}),
        lambda state: state.update(state=[1]),
        lambda state: state.update(param_groups=[1]),
        lambda state: state.update(param_groups=3),
        lambda state: state["param_groups"][0].pop("params"),
        lambda state: state["param_groups"][0].pop("lr"),
    ],
)
@parametrized(["stiefel_lora", "lora_plus", "adamw"])
def test_a_state_without_the_format_of_torch(name, change):
    optimizer = stepped(name, net(4, 16, 12))
    state = copy.deepcopy(optimizer.state_dict())
    change(state)
    refuse(optimizer, state)


@parametrized(["stiefel_lora", "adamw"])
def test_another_number_of_groups_or_parameters(name):
    optimizer = stepped(name, net(4, 16, 12))
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"] *= 2
    refuse(optimizer, state, ValueError, "different number of parameter groups")


@every_method
def test_a_refused_state_changes_no_later_step(name):
    results = []
    for refused in (False, True):
        model, batch = LoraNet(), task()
        optimizer = make(name, model)
        for step in range(5):
            if refused and step == 3:
                bad = with_value(optimizer.state_dict(), "lr", -1.0)
                with pytest.raises(CheckpointError):
                    optimizer.load_state_dict(bad)
            backward(model, batch)
            optimizer.step()
        results.append(snapshot(model))
    assert all(map(torch.equal, *results))


def test_states_of_another_choice_are_known():
    """The state of a run whose options were changed in param_groups can be loaded."""
    named = net(4, 16, 12)
    optimizer = make("stiefel_lora", named)
    for step in ("product", "factors"):
        for group in optimizer.param_groups:
            group["step"] = step
        for _, factor in named:
            factor.grad = torch.ones_like(factor)
        optimizer.step()
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group["a_rule"] = "adamw"
    make("stiefel_lora", net(4, 16, 12)).load_state_dict(state)
    state["state"][0]["momentum_down"] = torch.ones(4, 4)
    with pytest.raises(CheckpointError, match=r"has shape \(4, 4\)"):
        make("stiefel_lora", net(4, 16, 12)).load_state_dict(state)


def test_states_of_version_0_1_have_the_shape_of_their_factor():
    optimizer = stepped("lora_rite", net(4, 16, 12))
    state = copy.deepcopy(optimizer.state_dict())
    state["state"][1]["basis_up"] = torch.ones(4, 4)
    assert "has shape (4, 4)" in refuse(optimizer, state)


def two_layers(names):
    generator = torch.Generator().manual_seed(0)
    return [
        (
            f"{name}.lora_{role}.weight",
            nn.Parameter(torch.randn(*shape, generator=generator)),
        )
        for name in names
        for role, shape in (("A", (4, 12)), ("B", (10, 4)))
    ]


@pytest.mark.parametrize("name", PAIRED)
def test_a_state_of_the_same_layers_in_another_order_is_refused(name):
    saved = stepped(name, two_layers("ab")).state_dict()
    refuse(make(name, two_layers("ba")), saved, match="another order")


@pytest.mark.parametrize("name", PAIRED)
def test_other_names_are_reported_once_and_kept(name, caplog):
    saved = stepped(name, two_layers(["module.a", "module.b"])).state_dict()
    optimizer = make(name, two_layers("ab"))
    before = optimizer.param_groups[0]["param_names"]
    optimizer.load_state_dict(saved)
    assert caplog.text.count("names of the parameters differ") == 1
    assert optimizer.param_groups[0]["param_names"] == before

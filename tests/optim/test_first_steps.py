"""Errors and reports of an optimizer: no pairs, idle pairs, rates, states, groups."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
import torch
from catalogue_cases import every_method, make, parametrized
from lora_net import LoraLinear, LoraNet, backward, snapshot, task, train
from torch import nn

from stiefel_lora import OptionError, PairingError, create_optimizer
from stiefel_lora._exceptions import CheckpointError
from stiefel_lora.methods import CATALOGUE, method, rate_note
from stiefel_lora.optim import PairOptimizer, Rule

ON_PAIRS = [name for name in CATALOGUE if not name.startswith("adamw")]
on_pairs = parametrized(ON_PAIRS)


def named(model):
    return [(n, p) for n, p in model.named_parameters() if p.requires_grad]


# No pair at all.


@on_pairs
def test_a_model_without_lora_is_refused(name):
    with pytest.raises(PairingError, match="get_peft_model"):
        create_optimizer(name, nn.Sequential(nn.Linear(4, 40), nn.ReLU()))


def test_one_parameter_a_time_is_refused():
    for _, parameter in named(LoraNet()):
        with pytest.raises(PairingError, match="found no LoRA pairs in 1 param"):
            create_optimizer("stiefel_lora", [parameter])


def test_names_without_lora_are_refused_and_shown():
    pairs = [("q.hada_w1_a", nn.Parameter(torch.zeros(8, 2)))]
    with pytest.raises(PairingError, match="hada_w1_a"):
        create_optimizer("lora_rite", pairs)


def test_named_halves_may_get_their_partners_later():
    model = LoraNet()
    ups = [(n, p) for n, p in named(model) if "lora_B" in n]
    optimizer = make("stiefel_lora", ups)
    with pytest.raises(PairingError, match="get_peft_model"):
        optimizer.step()
    optimizer.add_param_group({"params": [e for e in named(model) if "lora_A" in e[0]]})
    assert len(optimizer.pairs) == 4
    before = snapshot(model)
    for _ in range(2):
        backward(model, task())
        optimizer.step()
    assert not torch.equal(before[1], snapshot(model)[1])


@parametrized(["adamw", "adamw_8bit"])
def test_adamw_needs_no_pairs(name):
    create_optimizer(name, nn.Linear(4, 4))


# What takes AdamW.


def test_every_optimizer_names_what_takes_adamw_its_rate_and_reason(caplog):
    for _ in range(2):
        create_optimizer("stiefel_lora", LoraNet(), lr=0.04)
    line = "1 of 9 parameters use AdamW at a learning rate of 0.002 = 0.05 x 0.04"
    assert caplog.text.count(f"{line} (not part of a LoRA pair): shift") == 2
    caplog.clear()
    create_optimizer("stella", LoraNet(), lr=0.04)
    assert (
        "use AdamW at a learning rate of 0.04 (not part of a LoRA pair)" in caplog.text
    )


# Frozen factors.


@on_pairs
@pytest.mark.parametrize("role", ["lora_A", "lora_B"])
def test_the_partner_of_a_frozen_factor_is_trained(name, role, caplog):
    model, batch = LoraNet(), task()
    nn.init.normal_(model.second.lora_B["default"].weight)
    optimizer = make(name, model)
    train(model, optimizer, 2, batch)
    layer = model.second
    frozen = getattr(layer, role)["default"].weight.requires_grad_(False)
    free = next(
        p for p in (layer.lora_A, layer.lora_B) if p is not getattr(layer, role)
    )
    free = free["default"].weight
    optimizer.zero_grad()
    before = frozen.clone(), free.clone(), model.first.lora_A["default"].weight.clone()
    for _ in range(2):
        backward(model, batch)
        optimizer.step()
    assert torch.equal(frozen, before[0])
    assert not torch.equal(free, before[1])
    assert not torch.equal(model.first.lora_A["default"].weight, before[2])
    assert caplog.text.count("one factor of 1 LoRA pairs is frozen") == (
        0 if name == "lora_plus" else 1
    )


def test_a_pair_that_is_thawed_enters_the_gauge_again():
    model, batch = LoraNet(), task()
    optimizer = make("stiefel_lora", model)
    train(model, optimizer, 2, batch)
    down = model.second.lora_A["default"].weight.requires_grad_(False)
    optimizer.zero_grad()
    train(model, optimizer, 2, batch)
    down.requires_grad_(True)
    train(model, optimizer, 2, batch)
    up = model.second.lora_B["default"].weight.detach()
    torch.testing.assert_close(up.mT @ up, torch.eye(4), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["stiefel_lora_factors", "lora_plus"])
def test_a_free_factor_is_trained_in_a_fused_backward_pass(name):
    model, batch = LoraNet(), task()
    optimizer = make(name, model)
    frozen = model.second.lora_A["default"].weight.requires_grad_(False)
    free = model.second.lora_B["default"].weight
    before = frozen.clone(), free.clone()
    for _ in range(2):
        backward(model, batch)
        for parameter in optimizer.param_groups[0]["params"]:
            optimizer.step_parameter(parameter, optimizer.param_groups[0])
    assert torch.equal(frozen, before[0])
    assert not torch.equal(free, before[1])


# The report after the third step.


def steps(optimizer, model, count, fused=False):
    for _ in range(count):
        backward(model, task())
        if fused:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    optimizer.step_parameter(parameter, group)
        else:
            optimizer.step()


@pytest.mark.parametrize("fused", [False, True])
def test_idle_pairs_are_reported_once_after_three_steps(fused, caplog):
    model = LoraNet()
    optimizer = make("stiefel_lora_factors", model)
    model.second.requires_grad_(False)
    steps(optimizer, model, 2, fused)
    assert "no gradient" not in caplog.text
    steps(optimizer, model, 4, fused)
    line = "1 of 4 LoRA pairs had no gradient for 3 steps and are not trained: second."
    assert caplog.text.count(line) == 1
    assert "set_adapter" in caplog.text


def test_a_copy_reports_what_it_saw(caplog):
    model = LoraNet()
    optimizer = make("stiefel_lora", model)
    steps(optimizer, model, 2)
    twin_model, twin = copy.deepcopy((model, optimizer))
    steps(twin, twin_model, 2)
    assert "no gradient" not in caplog.text


@pytest.mark.parametrize(
    ("name", "lr", "shown"),
    [
        ("stiefel_lora", 1e-4, "lr=0.0001 is 200 times below 0.02"),
        ("stiefel_lora", 2.0, "lr=2 is 100 times above 0.02"),
        ("stella", 0.02, "lr=0.02 is 40 times above 0.0005"),
        ("stiefel_lora", 0.1, None),
        ("stiefel_lora", 0.0, None),
    ],
)
def test_a_rate_in_another_unit_is_reported_once(name, lr, shown, caplog):
    model = LoraNet()
    optimizer = create_optimizer(name, model, lr=lr)
    steps(optimizer, model, 5)
    assert caplog.text.count("times ") == (0 if shown is None else 1)
    assert shown is None or shown in caplog.text


def test_a_warm_up_is_no_rate_in_another_unit(caplog):
    model = LoraNet()
    optimizer = create_optimizer("stiefel_lora", model, lr=0.02)
    optimizer.param_groups[0]["lr"] = 1e-5
    steps(optimizer, model, 4)
    assert "times below" not in caplog.text


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        ({}, 2e-2),
        ({"step": "factors"}, 2e-2),
        ({"step": "factors", "a_rule": "adamw"}, 1e-4),
        ({"step": "factors", "a_rule": "sign"}, 1e-3),
    ],
)
def test_a_rate_that_is_left_out_follows_the_options(options, rate):
    optimizer = create_optimizer("stiefel_lora", LoraNet(), **options)
    assert optimizer.param_groups[0]["lr"] == rate


def test_the_unit_follows_the_rule_of_a():
    entry = method("stiefel_lora")
    assert rate_note(entry, 1e-4, {"a_rule": "adamw"}) is None
    assert rate_note(entry, 0.02, {"a_rule": "adamw"}) is not None
    assert rate_note(entry, 0.02, {}) is None


# States.


@on_pairs
def test_options_younger_than_a_state_have_their_defaults(name):
    model = LoraNet()
    optimizer = make(name, model)
    steps(optimizer, model, 2)
    saved = optimizer.state_dict()
    own = sorted(CATALOGUE[name].defaults())[:2]
    for group in saved["param_groups"]:
        for option in own:
            del group[option]
    resumed = make(name, model)
    resumed.load_state_dict(saved)
    assert all(resumed.param_groups[0][o] == CATALOGUE[name].defaults()[o] for o in own)
    steps(resumed, model, 1)


def test_a_pickle_from_before_an_option_existed_continues():
    model = LoraNet()
    optimizer = make("stella", model)
    for group in optimizer.param_groups:
        del group["retraction"]
    twin = pickle.loads(pickle.dumps(optimizer))
    assert twin.param_groups[0]["retraction"] == "polar"


def test_a_tensor_younger_than_a_state_begins_at_zero():
    model = LoraNet()
    optimizer = make("lora_rite", model)
    steps(optimizer, model, 2)
    optimizer.param_groups[0]["escape"] = True
    steps(optimizer, model, 1)
    assert "escape_up" in optimizer.state[optimizer.pairs[0].up]


@every_method
@pytest.mark.parametrize("other", ["stiefel_lora", "stella", "lora_plus", "adamw"])
def test_the_state_of_another_method_is_named(name, other):
    model = LoraNet()
    saved = make(other, model).state_dict()
    optimizer = make(name, model)
    if optimizer.method == other:
        optimizer.load_state_dict(saved)
        return
    label = re.escape(CATALOGUE[other].label)
    with pytest.raises(CheckpointError, match=f"is from {label} and"):
        optimizer.load_state_dict(saved)


def test_the_state_of_a_foreign_optimizer_is_refused():
    model = LoraNet()
    foreign = torch.optim.SGD([p for _, p in named(model)], lr=0.1, momentum=0.9)
    for name in ("stiefel_lora", "adamw"):
        with pytest.raises(CheckpointError, match="from another optimizer"):
            make(name, model).load_state_dict(foreign.state_dict())


def test_adamw_takes_the_state_of_torch():
    model = LoraNet()
    theirs = torch.optim.AdamW([p for _, p in named(model)], lr=1e-3)
    make("adamw", model).load_state_dict(theirs.state_dict())


# Groups.


@every_method
@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("beta1", 2.0, r"beta1=2.0 must be in \[0, 1\)"),
        ("betas", (0.9, 0.99), "Set beta1 and beta2"),
        ("weight_dacay", 0.1, "Did you mean 'weight_decay'"),
        ("lr", -1.0, "lr must be in"),
    ],
)
def test_a_group_is_checked(name, key, value, shown):
    group = {"params": named(LoraNet()), key: value}
    with pytest.raises(OptionError, match=shown):
        make(name, [group])


@every_method
def test_an_unknown_key_of_a_group_is_reported(name, caplog):
    make(name, [{"params": named(LoraNet()), "zzz": 1, "name": "unet"}])
    assert (
        caplog.text.count("'zzz' in a parameter group is not an option and is ignored")
        == 1
    )
    assert "'name'" not in caplog.text


@parametrized(["adamw", "adamw_8bit"])
def test_betas_of_a_group_reach_adamw(name):
    groups = [{"params": named(LoraNet()), "beta1": 0.5}]
    optimizer = make(name, groups, beta2=0.95)
    assert tuple(optimizer.param_groups[0]["betas"]) == (0.5, 0.95)


# Rules without options.


def test_a_rule_without_options_trains_what_has_no_pair(monkeypatch):
    class Halve(Rule):
        def numbers(self, group):
            return {"share": 0.5}

        def update(self, batch):
            batch.up = batch.up - batch.lr_up * batch.grad_up
            batch.down = batch.down - batch.lr_down * batch.grad_down

    entry = copy.copy(CATALOGUE["lora_plus"])
    object.__setattr__(entry, "options", ())
    object.__setattr__(entry, "name", "halve")
    monkeypatch.setitem(CATALOGUE, "halve", entry)

    class Halver(PairOptimizer):
        method = "halve"
        rule = Halve()

    model = LoraNet()
    optimizer = Halver(model, 1e-3, {})
    steps(optimizer, model, 1)
    assert model.shift.abs().max() > 0


@pytest.mark.parametrize(("rank", "other"), [(1, 4), (4, 8), (8, 4), (4, 1)])
@every_method
def test_the_state_of_another_rank_is_refused(name, rank, other):
    """Steps on it were wrong without a word, or wrote beyond the end of a tensor."""
    models = [nn.Sequential(LoraLinear(12, 16, r), nn.Tanh()) for r in (rank, other)]
    saved, optimizer = (make(name, model) for model in models)
    for parameter in models[0].parameters():
        parameter.grad = torch.ones_like(parameter)
    # B = 0 only gets its start in the first one.
    saved.step()
    saved.step()
    with pytest.raises(CheckpointError, match=r"lora_[AB]\.default\.weight' has shape"):
        optimizer.load_state_dict(saved.state_dict())


@parametrized(["adamw", "lora_plus", "stiefel_lora"])
def test_float16_resumes_to_the_bit(name):
    results = []
    for resumed in (False, True):
        model, batch = LoraNet(dtype=torch.float16), task(torch.float16)
        optimizer = make(name, model)
        for step in range(6):
            if resumed and step == 3:
                saved = optimizer.state_dict()
                optimizer = make(name, model)
                optimizer.load_state_dict(saved)
            backward(model, batch)
            optimizer.step()
        results.append(snapshot(model))
    assert all(map(torch.equal, *results))


# Groups that hold one factor of a pair each.


def split(model, up=None, down=None):
    """One group of every B, with the rest, and one of every A."""
    downs = [entry for entry in named(model) if "lora_A" in entry[0]]
    ups = [entry for entry in named(model) if "lora_A" not in entry[0]]
    return [{"params": ups, **(up or {})}, {"params": downs, **(down or {})}]


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("stiefel_lora", {"step": "factors"}),
        ("stella", {"base_rule": "sgd"}),
        ("riemannion", {"momentum_form": "orthogonal"}),
        ("lora_rite", {"escape": True}),
    ],
)
def test_an_option_for_a_alone_that_selects_the_rule_of_its_pair(name, option):
    """It was ignored; in a fused backward pass A alone followed it."""
    key = next(iter(option))
    with pytest.raises(
        OptionError, match=rf"^{key}: the A factor of 'first' is in a group"
    ):
        create_optimizer(name, split(LoraNet(), down=option))
    for accepted in (
        split(LoraNet(), option, option),
        split(LoraNet(), up=option),
    ):
        create_optimizer(name, accepted)
    create_optimizer(name, split(LoraNet()), **option)


@pytest.mark.parametrize(
    ("name", "key", "value", "times"),
    [
        ("scaled_adamw", "weight_decay", 0.1, 1),
        ("stella", "beta1", 0.5, 1),
        ("lora_rite", "lr", 3e-4, 0),
        ("stiefel_lora", "momentum", 0.5, 1),
        ("lora_plus", "weight_decay", 0.1, 0),
    ],
)
def test_a_number_of_a_that_its_pair_does_not_use_is_reported(
    name, key, value, times, caplog
):
    create_optimizer(name, split(LoraNet(), down={key: value}))
    assert caplog.text.count("The value of B is used for both factors.") == times
    assert caplog.text.count("4 LoRA pairs have two") == times


@pytest.mark.parametrize("name", ["riemannion", "stiefel_lora"])
def test_two_rates_of_a_pair_are_one_for_the_product(name, caplog):
    create_optimizer(name, split(LoraNet(), down={"lr": 0.03}))
    assert caplog.text.count("The geometric mean is used, because the product") == 1


def test_an_option_of_a_group_without_effect_beside_inherited_ones_is_refused():
    with pytest.raises(OptionError, match="no effect if step is 'product'"):
        create_optimizer(
            "stiefel_lora",
            [{"params": named(LoraNet()), "b_rule": "momentum"}],
            step="product",
        )
    create_optimizer(
        "stiefel_lora",
        [{"params": named(LoraNet()), "b_rule": "momentum", "step": "factors"}],
        step="product",
    )


def test_options_that_a_state_brings_along_are_logged(caplog):
    model = LoraNet()
    saved = create_optimizer("stiefel_lora", model, step="factors").state_dict()
    optimizer = create_optimizer("stiefel_lora", model)
    caplog.clear()
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["step"] == "factors"
    assert [record.message for record in caplog.records] == [
        "StiefelLoRA: the options of the loaded state replace the current options: "
        "step='factors' instead of 'product'. To keep the current options, set them "
        "in param_groups after loading."
    ]
    caplog.clear()
    optimizer.load_state_dict(saved)
    assert not caplog.records

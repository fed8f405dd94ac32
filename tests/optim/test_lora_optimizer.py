"""Every optimizer of the catalogue: pairs, betas, print, starts, groups."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
import typing

import pytest
import torch
from catalogue_cases import entry, make, parametrized
from lora_net import LoraNet, backward, products, task

from stiefel_lora import (
    CheckpointError,
    LoraOptimizer,
    OptionError,
    PairingError,
    ParamGroup,
    create_optimizer,
    find_pairs,
    init_lora_,
)
from stiefel_lora.methods import CATALOGUE

every_method = parametrized(CATALOGUE)


@every_method
def test_every_optimizer_has_the_pairs_of_its_model(name):
    model = LoraNet()
    optimizer = make(name, model)
    assert isinstance(optimizer, LoraOptimizer)
    found = find_pairs(model).pairs
    assert [pair.name for pair in optimizer.pairs] == [
        "first",
        "second",
        "third",
        "last",
    ]
    for one, other in zip(optimizer.pairs, found, strict=True):
        assert one.up is other.up
        assert one.down is other.down
    assert optimizer.entry is CATALOGUE[name]


def test_create_optimizer_is_typed_with_pairs():
    hints = typing.get_type_hints(create_optimizer)
    assert hints["return"] is LoraOptimizer


def test_adamw_pairs_what_groups_of_names_and_bare_tensors_hold():
    model = LoraNet()
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    factors = [(n, p) for n, p in named if "lora" in n]
    optimizer = create_optimizer("adamw", [{"params": factors[:4]}])
    assert len(optimizer.pairs) == 2
    optimizer.add_param_group({"params": factors[4:]})
    assert len(optimizer.pairs) == 4
    bare = create_optimizer("adamw", [p for _, p in factors])
    assert len(bare.pairs) == 4
    square = [torch.nn.Parameter(torch.zeros(4, 4)) for _ in range(4)]
    mixed = create_optimizer("adamw", square)
    with pytest.raises(PairingError):
        _ = mixed.pairs
    assert "4 parameters, whose LoRA pairs need names to be found" in repr(mixed)
    plain = create_optimizer("adamw", torch.nn.Linear(3, 2))
    assert plain.pairs == []


@every_method
def test_print_is_one_screen(name):
    model = LoraNet()
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [item], "lr": 1e-3 * (1 + place), "name": f"part {place}"}
        for place, item in enumerate(named)
    ]
    for source in (model, groups):
        text = repr(make(name, source))
        lines = text.splitlines()
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 80
        assert lines[0].startswith(entry(name).load().__name__)
        assert "4 LoRA pairs of rank 2 to 4, 1 other parameter" in " ".join(
            text.split()
        )
    assert "group 0 'part 0': 1 parameter, lr=0.001" in text
    assert "and 3 more groups" in text


def test_print_shows_what_groups_differ_in():
    model = LoraNet()
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    optimizer = create_optimizer(
        "lora_rite",
        [{"params": named[:4], "weight_decay": 0.5}, {"params": named[4:]}],
    )
    text = repr(optimizer)
    assert "group 0: 4 parameters, lr=0.0002, weight_decay=0.5" in text
    assert "group 1: 5 parameters, lr=0.0002, weight_decay=0" in text
    assert text.count("beta1=") == 1


@every_method
@pytest.mark.parametrize("betas", [(0.5, 0.75), [0.5, 0.75]])
def test_betas_mean_beta1_and_beta2(name, betas):
    cls, model = entry(name).load(), LoraNet()
    plain = cls(model, beta1=0.5, beta2=0.75)
    for optimizer in (
        cls(model, betas=betas),
        create_optimizer(name, model, betas=betas),
    ):
        one, other = optimizer.param_groups[0], plain.param_groups[0]
        for key in ("beta1", "beta2", "betas"):
            assert one.get(key) == other.get(key)
    assert "betas" not in inspect.signature(cls).parameters


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"betas": (0.5, 0.9), "beta1": 0.9},
            "and beta1 are mutually exclusive. Pass",
        ),
        ({"betas": 0.9}, r"betas must be two numbers, but got 0.9"),
        ({"betas": (0.9,)}, "must be two numbers"),
        ({"betas": (0.9, 1.0)}, r"beta2=1.0 must be in \[0, 1\)"),
        ({"betas": ("a", 0.9)}, "beta1='a' must be a number"),
    ],
)
def test_betas_that_cannot_be(given, message):
    for name in ("adamw", "stiefel_lora"):
        with pytest.raises(OptionError, match=message):
            CATALOGUE[name].load()(LoraNet(), **given)
        with pytest.raises(OptionError, match=message):
            create_optimizer(name, LoraNet(), **given)


@every_method
def test_init_lora_starts_as_the_method_needs_it(name):
    model = LoraNet()
    assert len(init_lora_(model, name, seed=3)) == 4
    before = [pair.up.detach().clone() for pair in find_pairs(model).pairs]
    assert all(product.abs().max() <= 1e-7 for product in products(model))
    start = CATALOGUE[name].start
    for pair in find_pairs(model).pairs:
        up = pair.up.detach()
        gram = up.T @ up
        wanted = torch.zeros_like(gram) if start == "lora" else torch.eye(len(gram))
        torch.testing.assert_close(gram, wanted, rtol=0, atol=1e-5)
    again = LoraNet(seed=5)
    init_lora_(again, name, seed=3)
    for one, pair in zip(before, find_pairs(again).pairs, strict=True):
        assert torch.equal(one, pair.up)
    backward(model, task())
    make(name, model).step()


def test_init_lora_takes_stiefel_lora_by_default_and_names_the_nearest():
    model = LoraNet()
    init_lora_(model)
    assert float(model.first.lora_B["default"].weight.detach().norm()) > 1
    with pytest.raises(OptionError, match="Did you mean 'stella'"):
        init_lora_(model, "stela")


def test_groups_are_typed_with_every_option():
    hints = typing.get_type_hints(ParamGroup)
    options = [option for method in CATALOGUE.values() for option in method.options]
    empty = {option.name for option in options if option.optional}
    for option in options:
        wanted = option.type | None if option.name in empty else option.type
        assert hints[option.name] == wanted, option.name
    own = {"params", "lr", "name", "param_names"}
    assert set(hints) == {option.name for option in options} | own
    assert ParamGroup.__required_keys__ == {"params"}


@pytest.mark.parametrize("name", sorted(set(CATALOGUE) - {"adamw_8bit"}))
def test_constructors_are_written_as_their_records(name):
    # An editor reads signatures and docstrings from the text, so options stand there
    # a second time; here is what keeps the two alike.
    entry = CATALOGUE[name]
    cls = entry.load()
    init = inspect.unwrap(cls.__init__)
    hints = typing.get_type_hints(init, vars(sys.modules[init.__module__]))
    text = next(inspect.getdoc(c) for c in cls.__mro__ if "Args:" in (c.__doc__ or ""))
    for option in entry.options:
        wanted = option.type | None if option.optional else option.type
        assert hints[option.name] == wanted, option.name
        assert f"\n    {option.name}: " in text, option.name


def test_star_import_and_help_need_torch_alone():
    code = """
        import sys

        class Blocked:
            def find_spec(self, name, path=None, target=None):
                names = ("bitsandbytes", "pydantic", "peft", "diffusers", "typer")
                if name.partition(".")[0] in names:
                    raise ModuleNotFoundError(name, name=name)

        sys.meta_path.insert(0, Blocked())
        from stiefel_lora import *
        import pydoc
        import stiefel_lora
        text = pydoc.render_doc(stiefel_lora, renderer=pydoc.plaintext)
        print(all(n in text for n in ("StiefelLoRA", "create_optimizer", "register")))
        print(issubclass(StiefelLoRA, LoraOptimizer))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_the_8_bit_class_stays_where_hosts_look_for_it():
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    import stiefel_lora

    assert stiefel_lora.EightBitAdamW is CATALOGUE["adamw_8bit"].load()


@pytest.mark.parametrize("name", ["stella", "adamw"])
@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({}, "a dict without param_groups and state"),
        (LoraNet().state_dict(), "a dict without param_groups and state"),
        ({"state": {}}, "a dict without param_groups and state"),
        (None, "of type NoneType"),
        ([], "of type list"),
    ],
)
def test_a_state_of_something_else_is_one_error(name, given, kind):
    optimizer = create_optimizer(name, LoraNet())
    with pytest.raises(CheckpointError) as caught:
        optimizer.load_state_dict(given)
    assert str(caught.value) == (
        f"state_dict: must be the state of an optimizer, but got {kind}. Pass the "
        "result of state_dict()."
    )

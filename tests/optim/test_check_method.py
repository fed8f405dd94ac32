"""check_method: passes what keeps the contract, and names what does not."""

from __future__ import annotations

import pytest
import torch

from helpers.plugin_methods import forgetting_plugins, write_plugin
from stiefel_lora import (
    OptionError,
    PairOptimizer,
    Rule,
    StelLA,
    create_optimizer,
    init_lora_,
    register,
)
from stiefel_lora.methods import load_plugin
from stiefel_lora.testing import CHECKS, LoraNet, check_method


@pytest.fixture(autouse=True)
def forget():
    with forgetting_plugins():
        yield


def test_a_method_of_a_users_file_keeps_the_contract(tmp_path):
    (entry,) = load_plugin(str(write_plugin(tmp_path)))
    check_method(entry.load())
    check_method("sign_lora", lr=3e-3, momentum=0.5)


def test_a_built_in_method_keeps_it_by_name():
    check_method("lora_plus", lr=5e-3)


class Careless(Rule):
    """Breaks the contract in four ways."""

    calls = 0

    def update(self, batch):
        # Kept outside of the state, so that neither file nor copy has it.
        type(self).calls += 1
        noise = 1e-3 * type(self).calls
        batch.up = batch.up - 0.1 * (batch.grad_up + noise)


def registered(rule):
    record = register(label="Careless", summary="Nothing.", default_lr=1e-2)
    return record(type("Careless", (PairOptimizer,), {"rule": rule}))


def test_what_breaks_it_is_named_all_at_once():
    with pytest.raises(AssertionError) as caught:
        check_method(registered(Careless), lr=0.1)
    text = str(caught.value)
    count = len(text.splitlines()) - 1
    title = f"Careless fails {count} of {len(CHECKS)} checks at lr=0.1:"
    assert text.splitlines()[0] == title
    for part in (
        "state survives a file and resumes to the bit: bits differ",
        "a deep copy is independent: bits differ",
        "zero gradients leave a fresh product alone: a product moved",
        "schedulers drive the rate: a product moved",
    ):
        assert part in text
    assert isinstance(caught.value.__cause__, AssertionError)


class Broken(Rule):
    def update(self, batch):
        batch.up = batch.up @ torch.eye(99)


def test_an_error_of_the_method_is_a_line_too():
    with pytest.raises(AssertionError, match="it learns: RuntimeError: "):
        check_method(registered(Broken))


def test_an_unknown_name_is_a_message():
    with pytest.raises(OptionError, match="Did you mean 'stella'"):
        check_method("stela")


def refused(*given, **options):
    with pytest.raises(OptionError) as caught:
        check_method(*given, **options)
    return str(caught.value)


def test_no_registered_class_is_one_error():
    class Unregistered(PairOptimizer):
        pass

    for given, shown in (
        (Unregistered, "Unregistered"),
        (torch.optim.AdamW, "AdamW"),
        (StelLA(LoraNet()), "'StelLA'"),
        (3, "'int'"),
    ):
        assert refused(given) == (
            f"check_method: {shown} is not a registered optimizer class. Add the "
            "decorator @register(...) to the class, and pass the class or the name "
            "of its method."
        )


def test_a_wrong_option_is_one_error():
    assert refused("stella", momentun=1).startswith("stella has no option 'momentun'")
    assert refused("polora", momentum=2).startswith("polora: momentum=2 must be in")


@pytest.mark.parametrize(
    ("given", "shown", "instead"),
    [
        (3, "an object of type int", "stiefel_lora"),
        (None, "None", "stiefel_lora"),
        (["stella"], "an object of type list", "stiefel_lora"),
        (StelLA, "the class StelLA", "stella"),
        (torch.optim.AdamW, "the class AdamW", "stiefel_lora"),
        (LoraNet(), "an object of type LoraNet", "stiefel_lora"),
    ],
)
def test_an_optimizer_is_chosen_by_its_name(given, shown, instead):
    for use in (create_optimizer, lambda name, model: init_lora_(model, name)):
        with pytest.raises(OptionError) as caught:
            use(given, LoraNet())
        assert str(caught.value) == (
            f"The optimizer must be the name of a method, but got {shown}. Use "
            f"{instead!r}, as a string."
        )

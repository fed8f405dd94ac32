"""check_method: passes what keeps the contract, and names what does not."""

from __future__ import annotations

import pytest
import torch

from helpers.plugin_methods import forgetting_plugins, write_plugin
from stiefel_lora import OptionError, PairOptimizer, Rule, register
from stiefel_lora.methods import load_plugin
from stiefel_lora.testing import CHECKS, check_method


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
    with pytest.raises(OptionError, match="did you mean 'stella'"):
        check_method("stela")

from __future__ import annotations

import pytest

from stiefel_lora._exceptions import ConfigError
from stiefel_lora.config import parse_config
from stiefel_lora.config.overrides import parse_override
from stiefel_lora.methods import CATALOGUE


@pytest.mark.parametrize(
    ("text", "keys", "value"),
    [
        ("steps=7", ["steps"], 7),
        ("learning_rate=2e-3", ["learning_rate"], 0.002),
        ("comment=two words = three", ["comment"], "two words = three"),
        ('comment="7"', ["comment"], "7"),
        ("comment=", ["comment"], ""),
        ("cache_dir=null", ["cache_dir"], None),
        ('concepts=["a", "b"]', ["concepts"], ["a", "b"]),
        ("a.0.b=true", ["a", "0", "b"], True),
    ],
)
def test_values_are_json_or_else_text(text, keys, value):
    assert parse_override(text) == (keys, value)


@pytest.mark.parametrize("text", ["steps", "=3", "a..b=3", ".a=3"])
def test_what_is_not_an_override(text):
    with pytest.raises(ConfigError) as error:
        parse_override(text)
    assert str(error.value) == (
        f"--set {text!r} must have the form KEY=VALUE, for example lora_rank=32."
    )


def test_a_new_optimizer_name_brings_that_methods_defaults():
    file = {"optimizer": {"name": "adamw", "beta1": 0.5}}
    again = parse_config(file, overrides=["optimizer.name=adamw"])
    assert again.optimizer.arguments() == CATALOGUE["adamw"].defaults()
    other = parse_config(file, overrides=["optimizer.name=stiefel_lora"])
    assert other.optimizer.arguments() == CATALOGUE["stiefel_lora"].defaults()


def test_overrides_apply_in_order():
    overrides = ["optimizer.beta1=0.7", "optimizer.name=adamw", "optimizer.beta2=0.9"]
    options = parse_config({}, overrides=overrides).optimizer.arguments()
    assert options == {**CATALOGUE["adamw"].defaults(), "beta2": 0.9}


def test_an_option_without_a_name_is_one_of_the_default_optimizer():
    config = parse_config({}, overrides=["optimizer.momentum=0.8"])
    assert config.optimizer.name == "stiefel_lora"
    assert config.optimizer.arguments()["momentum"] == 0.8


def test_a_custom_optimizer_from_the_command_line():
    config = parse_config(
        {},
        overrides=[
            "optimizer.name=custom",
            "optimizer.class=torch.optim.RAdam",
            "optimizer.options.eps=1e-6",
        ],
    )
    assert config.optimizer.arguments() == {"eps": 1e-6}
    assert config.optimizer.method is None


@pytest.mark.parametrize("concepts", ["a", ["a", "b"], [{"path": "a"}]])
def test_an_entry_of_a_list(concepts):
    config = parse_config({"concepts": concepts}, overrides=["concepts.0.repeats=2"])
    assert config.concepts[0].repeats == 2
    assert config.concepts[0].path.name == "a"


@pytest.mark.parametrize(
    ("data", "override", "message"),
    [
        (
            {"samples": [{"prompt": "a"}]},
            "samples.1.seed=3",
            "samples.1.seed: samples has 1 entry, but the index is 1. The first "
            "index is 0.",
        ),
        (
            {},
            "samples.0.seed=3",
            "samples.0.seed: samples has 0 entries, but the index is 0. The first "
            "index is 0.",
        ),
        (
            {"samples": [{"prompt": "a"}]},
            "samples.first.seed=3",
            "samples.first.seed: samples has 1 entry, but the index is first. The "
            "first index is 0.",
        ),
        (
            {"steps": 3},
            "steps.more=3",
            "steps.more: steps is a single value and has no key more.",
        ),
    ],
)
def test_paths_that_lead_nowhere(data, override, message):
    with pytest.raises(ConfigError) as error:
        parse_config(data, overrides=[override])
    assert str(error.value) == message


def test_the_given_data_stay_as_they_are():
    data = {"concepts": [{"path": "/a"}]}
    parse_config(data, overrides=["concepts.0.repeats=2"])
    assert data == {"concepts": [{"path": "/a"}]}

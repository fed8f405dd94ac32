from __future__ import annotations

import inspect
import json
import math
import sys
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from stiefel_lora import ConfigError
from stiefel_lora.config import (
    TrainConfig,
    dump_full,
    dump_lean,
    lean,
    parse_config,
)
from stiefel_lora.config.checks import remarks
from stiefel_lora.config.optimizer import OPTIMIZER_MODELS, _model_of
from stiefel_lora.methods import CATALOGUE, DECAYS, Option, check_options, decay_excess

NAMES = sorted(CATALOGUE)


def option_values(option: Option) -> st.SearchStrategy[object]:
    if option.choices:
        values: st.SearchStrategy[object] = st.sampled_from(option.choices)
    elif option.type is bool:
        values = st.booleans()
    elif option.type is int:
        low = None if option.low is None else math.ceil(option.low)
        high = None if option.high is None else math.floor(option.high)
        values = st.integers(low, high)
    else:
        values = st.floats(
            option.low,
            option.high,
            exclude_min=option.low_open,
            exclude_max=option.high_open,
            allow_nan=False,
            allow_infinity=False,
        )
    return st.none() | values if option.optional else values


def with_an_effect(given: dict[str, object]) -> dict[str, object]:
    """Without options that have none beside the others, which are refused."""
    options = {name: value for name, value in given.items() if name != "name"}
    idle = {o.name for o, _, _ in CATALOGUE[str(given["name"])].idle(options)}
    return {name: value for name, value in given.items() if name not in idle}


def methods() -> st.SearchStrategy[dict[str, object]]:
    return st.one_of(
        st.fixed_dictionaries(
            {"name": st.just(entry.name)},
            optional={o.name: option_values(o) for o in entry.options},
        ).map(with_an_effect)
        for entry in CATALOGUE.values()
    )


custom = st.fixed_dictionaries(
    {"name": st.just("custom"), "class": st.just("torch.optim.RAdam")},
    optional={"options": st.dictionaries(st.text(), st.integers() | st.booleans())},
)
prompts = st.fixed_dictionaries(
    {"prompt": st.text(min_size=1)},
    optional={"seed": st.integers(0, 2**32 - 1), "width": st.sampled_from([32, 1024])},
)
configs = st.fixed_dictionaries(
    {},
    optional={
        "comment": st.text(),
        "concepts": st.sampled_from(
            ["/a", ["/a", "/b"], [{"path": "/c", "repeats": 3}]]
        ),
        "steps": st.integers(10, 10**6),
        "learning_rate": st.floats(1e-9, 1),
        "learning_rate_warmup_steps": st.integers(0, 10),
        "lora_rank": st.integers(1, 4096),
        "optimizer": methods() | custom,
        "samples": st.lists(prompts, max_size=3),
        "output_formats": st.sampled_from([["peft"], ["peft", "kohya"]]),
        "rank_every": st.none() | st.integers(0, 10),
    },
)


def with_small_decay(data: dict[str, object]) -> dict[str, object]:
    """Without a weight decay that changes the sign of the weights, which is refused."""
    optimizer = data.get("optimizer")
    if not isinstance(optimizer, dict) or optimizer["name"] == "custom":
        return data
    options = {name: value for name, value in optimizer.items() if name != "name"}
    entry, rate = CATALOGUE[optimizer["name"]], data.get("learning_rate", 1e-3)
    if decay_excess(entry, rate, options, rank=1) is None:
        return data
    without = {name: value for name, value in optimizer.items() if name not in DECAYS}
    return {**data, "optimizer": without}


@given(configs.map(with_small_decay))
@settings(max_examples=60, deadline=None)
def test_lean_and_full_text_round_trip(data):
    config = parse_config(data)
    assert parse_config(json.loads(dump_lean(config))) == config
    assert parse_config(json.loads(dump_full(config))) == config
    assert len(dump_lean(config)) < len(dump_full(config))


@pytest.mark.parametrize("name", NAMES)
def test_a_lean_dump_keeps_the_tag_of_the_optimizer(name):
    config = parse_config({"optimizer": {"name": name}})
    if name == TrainConfig().optimizer.name:
        assert "optimizer" not in lean(config)
    else:
        assert lean(config)["optimizer"] == {"name": name}


@pytest.mark.parametrize("name", NAMES)
def test_options_are_those_of_the_catalogue(name):
    entry = CATALOGUE[name]
    optimizer = parse_config({"optimizer": {"name": name}}).optimizer
    assert optimizer.arguments() == entry.defaults()
    assert optimizer.method is entry
    check_options(entry, optimizer.arguments())


@pytest.mark.parametrize(
    ("name", "option"),
    [(name, option) for name in NAMES for option in CATALOGUE[name].options],
    ids=lambda part: part if isinstance(part, str) else part.name,
)
@pytest.mark.parametrize(
    "value", [None, True, 0, 1, -1, 0.5, 2, 1e9, -1e-9, "x", "sign", math.nan, math.inf]
)
def test_schema_and_catalogue_accept_the_same_values(name, option, value):
    fields = {"name": name, option.name: value}
    if option.violation(value) is None:
        OPTIMIZER_MODELS[name].model_validate(fields)
    else:
        with pytest.raises(ValidationError):
            OPTIMIZER_MODELS[name].model_validate(fields)


@pytest.mark.parametrize("name", NAMES)
def test_learning_rate_unset_is_where_the_method_begins(name):
    config = parse_config({"optimizer": {"name": name}})
    assert config.learning_rate == CATALOGUE[name].default_lr


@pytest.mark.parametrize(
    ("option", "rate"),
    [
        ({"step": "factors"}, 2e-2),
        ({"step": "factors", "a_rule": "adamw"}, 1e-4),
        ({"step": "factors", "a_rule": "sign"}, 1e-3),
        ({"step": "product"}, 2e-2),
    ],
)
def test_learning_rate_unset_follows_the_options(option, rate):
    config = parse_config({"optimizer": {"name": "stiefel_lora", **option}})
    assert config.learning_rate == rate
    assert not [x for x in remarks(config) if x.key == "learning_rate"]


def test_alpha_unset_is_the_rank():
    assert parse_config({"lora_rank": 24}).resolved_alpha == 24.0
    assert parse_config({"lora_rank": 24, "lora_alpha": 24}).resolved_alpha == 24.0
    free = {"optimizer": {"name": "adamw"}, "lora_rank": 24, "lora_alpha": 1}
    assert parse_config(free).resolved_alpha == 1.0


@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [(2000, None, 50), (40, None, 5), (40, 7, 7), (9, 0, 0)],
)
def test_interval_of_rank_measurements(steps, every, expected):
    config = parse_config({"steps": steps, "rank_every": every})
    assert config.resolved_rank_every == expected


def test_a_config_is_frozen():
    with pytest.raises(ValidationError):
        TrainConfig().steps = 3  # type: ignore[misc]


def test_every_field_has_a_tooltip():
    models = [TrainConfig, *OPTIMIZER_MODELS.values()]
    missing = [
        f"{model.__name__}.{name}"
        for model in models
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert not missing


def test_a_module_whose_parts_do_not_import(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = types.ModuleType("lazy_optimizers")

    def part(name: str) -> object:
        raise ImportError("Install more to use it.")

    lazy.__getattr__ = part  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "lazy_optimizers", lazy)
    choice = {"name": "custom", "class": "lazy_optimizers.Lazy"}
    config = parse_config({"optimizer": choice})
    with pytest.raises(ConfigError, match=r"cannot be imported \(Install more"):
        config.optimizer.load()  # type: ignore[attr-defined]


def test_models_of_records_are_made_without_a_look_at_all_modules(monkeypatch):
    """pydantic's search for docstrings of fields takes seconds beside torch."""
    looked = []
    find = inspect.getmodule
    monkeypatch.setattr(inspect, "getmodule", lambda *x: looked.append(x) or find(*x))
    model = _model_of(CATALOGUE["stella"])
    assert not looked
    assert model.model_fields["beta1"].description

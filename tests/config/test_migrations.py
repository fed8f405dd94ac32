from __future__ import annotations

import json

import pytest

from stiefel_lora._exceptions import ConfigError
from stiefel_lora.config import load_config, parse_config
from stiefel_lora.config.migrations import MIGRATIONS, latest_version, migrate
from stiefel_lora.config.schema import SCHEMA_VERSION

MINIMAL = {"base_model_name": "base", "concepts": ["images"]}


def rename(data):
    return {"new": data.pop("old"), **data}


def double(data):
    return {**data, "new": data["new"] * 2}


def test_the_schema_is_of_the_latest_version():
    assert latest_version() == SCHEMA_VERSION


FACTORS = {"name": "stiefel_lora", "step": "factors"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"optimizer": FACTORS}),
        ({"optimizer": "stiefel_lora"}, {"optimizer": FACTORS}),
        ({"optimizer": {"name": "stiefel_lora"}}, {"optimizer": FACTORS}),
        (
            {"optimizer": {"name": "stiefel_lora", "momentum": 0.8}},
            {"optimizer": {**FACTORS, "momentum": 0.8}},
        ),
        (
            {"optimizer": {"name": "stiefel_lora", "step": "product"}},
            {"optimizer": {"name": "stiefel_lora", "step": "product"}},
        ),
        ({"optimizer": "adamw"}, {"optimizer": "adamw"}),
        ({"optimizer": {"name": "stella"}}, {"optimizer": {"name": "stella"}}),
        ({"optimizer": 3}, {"optimizer": 3}),
        ({"extends": "base.json"}, {"extends": "base.json"}),
    ],
    ids=str,
)
def test_stiefel_lora_of_version_1_keeps_its_steps_per_factor(before, after):
    assert MIGRATIONS[0](dict(before)) == after


def test_a_file_of_version_1_keeps_its_rule_and_rate():
    old = parse_config({**MINIMAL, "schema_version": 1})
    assert (old.optimizer.step, old.learning_rate) == ("factors", 0.02)
    new = parse_config(MINIMAL)
    assert (new.optimizer.step, new.learning_rate) == ("product", 0.02)


PRODUCT = {"name": "stiefel_lora", "momentum": 0.9}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"optimizer": PRODUCT, "learning_rate": 0.01}),
        ({"learning_rate": 0.05}, {"optimizer": PRODUCT, "learning_rate": 0.05}),
        (
            {"optimizer": {"name": "stiefel_lora", "momentum": 0.8}},
            {"optimizer": {**PRODUCT, "momentum": 0.8}, "learning_rate": 0.01},
        ),
        (
            {"optimizer": {"name": "stiefel_lora", "step": "factors"}},
            {"optimizer": {"name": "stiefel_lora", "step": "factors"}},
        ),
        (
            {"extends": "base.json", "optimizer": "stiefel_lora"},
            {"extends": "base.json", "optimizer": PRODUCT, "learning_rate": 0.01},
        ),
        ({"extends": "base.json"}, {"extends": "base.json"}),
        ({"optimizer": "adamw"}, {"optimizer": "adamw"}),
        ({"optimizer": 3}, {"optimizer": 3}),
    ],
    ids=str,
)
def test_the_product_of_version_2_keeps_its_momentum_and_rate(before, after):
    assert MIGRATIONS[1](dict(before)) == after


def test_files_of_versions_1_and_2_keep_their_numbers():
    for version, momentum, rate in ((1, None, 0.02), (2, 0.9, 0.01), (3, None, 0.02)):
        config = parse_config({**MINIMAL, "schema_version": version})
        assert config.optimizer.arguments().get("momentum") == momentum
        assert config.learning_rate == rate


@pytest.mark.parametrize("base", [{}, {"optimizer": {"name": "adamw"}}])
@pytest.mark.parametrize("rate", [{}, {"learning_rate": 0.005}])
def test_a_file_of_version_2_that_extends_another_keeps_its_numbers(
    tmp_path, base, rate
):
    """The rate of the base is not taken, so the default of version 2 counts."""
    lower = {"schema_version": 2, **base, **rate}
    (tmp_path / "base.json").write_text(json.dumps(lower), "utf-8")
    upper = {"extends": "base.json", "optimizer": {"name": "stiefel_lora"}}
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"schema_version": 2, **upper}), "utf-8")
    config = load_config(path)
    assert config.learning_rate == 0.01
    assert config.optimizer.arguments()["momentum"] == 0.9


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"schema_version": 1, "old": 2}, {"schema_version": 3, "new": 4}),
        ({"schema_version": 2, "new": 2}, {"schema_version": 3, "new": 4}),
        ({"schema_version": 3, "new": 2}, {"schema_version": 3, "new": 2}),
        ({"new": 2}, {"schema_version": 3, "new": 2}),
    ],
)
def test_migrations_run_one_after_another(before, after):
    given = dict(before)
    assert migrate(before, [rename, double]) == after
    assert before == given


@pytest.mark.parametrize("version", [0, 4, True, "1", 1.0, None])
def test_versions_that_are_none(version):
    with pytest.raises(ConfigError, match=r"^schema_version: "):
        migrate({"schema_version": version}, [rename, double])

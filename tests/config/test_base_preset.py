from __future__ import annotations

import json
from pathlib import Path

import pytest

from stiefel_lora._exceptions import ConfigError
from stiefel_lora.config import dump_full, load_config, parse_config
from stiefel_lora.config.presets import find_config


def write(path: Path, **settings: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


def test_only_the_difference_is_written(tmp_path):
    write(tmp_path / "base" / "all.json", steps=70, lora_rank=8, comment="of the base")
    config = load_config(
        write(tmp_path / "mine.json", extends="base/all.json", lora_rank=4)
    )
    assert (config.steps, config.lora_rank) == (70, 4)
    assert (config.run_name, config.comment) == ("mine", "")
    assert config == parse_config(
        {"steps": 70, "lora_rank": 4, "run_name": "mine"}, folder=tmp_path
    )
    assert "extends" not in json.loads(dump_full(config))


def test_paths_of_the_base_are_relative_to_the_base(tmp_path):
    images = tmp_path / "base" / "pictures"
    write(tmp_path / "base" / "all.json", concepts=[{"path": "pictures"}])
    config = load_config(write(tmp_path / "mine.json", extends="base/all.json"))
    assert [concept.path for concept in config.concepts] == [images]


def test_a_preset_by_name_and_a_base_of_a_base(tmp_path):
    write(tmp_path / "long.json", extends="sdxl_adamw", steps=9000)
    config = load_config(write(tmp_path / "mine.json", extends="long.json"))
    preset = load_config(find_config("sdxl_adamw"))
    assert config.steps == 9000
    assert (config.optimizer, config.learning_rate) == (
        preset.optimizer,
        preset.learning_rate,
    )


def test_another_optimizer_does_not_inherit_a_rate_in_another_unit(tmp_path):
    path = write(
        tmp_path / "mine.json", extends="sdxl_adamw", optimizer={"name": "stiefel_lora"}
    )
    usual = parse_config({"optimizer": {"name": "stiefel_lora"}}).learning_rate
    assert load_config(path).learning_rate == usual


def test_overrides_come_last(tmp_path):
    path = write(tmp_path / "mine.json", extends="sdxl_adamw", steps=500)
    assert load_config(path, ["steps=600"]).steps == 600


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"extends": "sdxl_adamv"},
            "extends: The file sdxl_adamv does not exist. Did you mean the preset "
            "sdxl_adamw?",
        ),
        (
            {"extends": 3},
            "extends: must be the path of a file or the name of a preset in double "
            "quotes, but got 3.",
        ),
        ({"extends": "sdxl_adamw", "stpes": 3}, "Did you mean steps?"),
    ],
)
def test_bad_bases(tmp_path, settings, message):
    with pytest.raises(ConfigError) as error:
        load_config(write(tmp_path / "mine.json", **settings))
    assert message in str(error.value)


def test_files_that_extend_each_other(tmp_path):
    write(tmp_path / "one.json", extends="two.json")
    two = write(tmp_path / "two.json", extends="one.json")
    with pytest.raises(
        ConfigError, match=r"extends: the file extends itself through .*two.json"
    ):
        load_config(tmp_path / "one.json")
    assert two.is_file()


def test_a_mistake_in_the_base_is_found(tmp_path):
    write(tmp_path / "base.json", lora_rnk=3)
    path = write(tmp_path / "mine.json", extends="base.json")
    with pytest.raises(ConfigError, match="Did you mean lora_rank"):
        load_config(path)

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stiefel_lora._exceptions import ConfigError
from stiefel_lora.config import TrainConfig, load_config, parse_config
from stiefel_lora.config.path_text import is_hub_name


def write(path: Path, **data: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """Current folder, beside the folder ``files`` that holds config files."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def files(tmp_path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


def test_paths_in_a_file_are_relative_to_it(files, here):
    path = write(
        files / "cats.json",
        concepts=["cats", {"path": "../dogs", "repeats": 2}],
        validation_concepts="held_out",
        output_dir="out",
        cache_dir="./cache",
        base_model_name="./sdxl",
    )
    config = load_config(path)
    assert [concept.path for concept in config.concepts] == [
        files / "cats",
        files.parent / "dogs",
    ]
    assert config.validation_concepts[0].path == files / "held_out"
    assert config.output_dir == files / "out"
    assert config.cache_dir == files / "cache"
    assert config.base_model_name == str(files / "sdxl")


def test_paths_in_overrides_are_relative_to_the_current_folder(files, here):
    path = write(files / "cats.json", concepts=["cats"], output_dir="out")
    config = load_config(
        path,
        ["validation_concepts=held_out", "output_dir=mine", "base_model_name=./sdxl"],
    )
    assert config.concepts[0].path == files / "cats"
    assert config.validation_concepts[0].path == here / "held_out"
    assert config.output_dir == here / "mine"
    assert config.base_model_name == str(here / "sdxl")


def test_a_relative_name_of_the_file_itself(files, monkeypatch):
    write(files / "cats.json", concepts="cats")
    monkeypatch.chdir(files)
    assert load_config("cats.json").concepts[0].path == files / "cats"


def test_home_folder(files, monkeypatch):
    monkeypatch.setenv("HOME", str(files))
    monkeypatch.setenv("USERPROFILE", str(files))
    config = parse_config({"concepts": "~/cats", "base_model_name": "~/sdxl"})
    assert config.concepts[0].path == files / "cats"
    assert config.base_model_name == str(files / "sdxl")


def test_names_that_a_file_leaves_out(files, here):
    config = load_config(write(files / "my cats.json"))
    assert config.run_name == "my cats"
    assert config.output_dir == here / "runs"
    assert config.run_dir == here / "runs" / "my cats"


@pytest.mark.parametrize(
    ("name", "is_path"),
    [
        ("org/name", False),
        ("name", False),
        ("./org/name", True),
        ("../name", True),
        ("org/name/more", True),
        ("name.safetensors", True),
        ("org/name.safetensors", True),
        ("NAME.SAFETENSORS", True),
        ("org/name.SFT", True),
        ("org/safetensors", False),
        ("there/sdxl", True),
    ],
)
def test_hub_name_or_folder(files, here, name, is_path):
    (files / "there" / "sdxl").mkdir(parents=True)
    config = load_config(write(files / "c.json", base_model_name=name))
    expected = str((files / name).resolve()) if is_path else name
    assert config.base_model_name == expected
    assert is_hub_name(config.base_model_name) is (not is_path and "/" in name)


def test_a_hub_name_in_a_file_is_not_looked_up_in_the_current_folder(files, here):
    (here / "org" / "name").mkdir(parents=True)
    path = write(files / "c.json", base_model_name="org/name")
    assert load_config(path).base_model_name == "org/name"
    local = load_config(path, ["base_model_name=org/name"])
    assert local.base_model_name == str(here / "org" / "name")


def test_the_pointer_to_the_schema_is_ignored():
    assert parse_config({"$schema": "x.json"}) == parse_config({})


def test_a_byte_order_mark_is_ignored(files):
    path = files / "c.json"
    path.write_text('{"steps": 7}', encoding="utf-8-sig")
    assert load_config(path).steps == 7


def test_missing_file(files):
    with pytest.raises(ConfigError) as error:
        load_config(files / "no.json")
    assert str(error.value) == (
        f"The file {files / 'no.json'} does not exist. Run stiefel-lora presets to "
        "list all presets."
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b'{\n  "steps": 3,\n  "seed" 4\n}',
            "{path} is not valid JSON at line 3, column 10: Expecting ':' delimiter.",
        ),
        (
            b'{"comment": "\xff"}',
            "{path} is not UTF-8 text (byte 13). Save it as UTF-8.",
        ),
        (b"[]", "{path} must contain a JSON object in {{ }}."),
        (
            b'{"steps": 3, "steps": 4}',
            "{path}: The key steps occurs twice in the same object. Remove one of "
            "them.",
        ),
        (b'{"steps": 0}', "{path}: steps: must be at least 1, but got 0."),
        (
            b'{"steps": 0, "lora_rank": 0}',
            "{path}:\n  steps: must be at least 1, but got 0.\n  lora_rank: must be "
            "at least 1, but got 0.",
        ),
    ],
)
def test_broken_files(files, content, message):
    path = files / "broken.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(error.value) == message.format(path=path)


def test_errors_name_the_overrides_too(files):
    path = write(files / "c.json")
    with pytest.raises(ConfigError, match=r"c\.json with --set: steps: must"):
        load_config(path, ["steps=0"])
    with pytest.raises(ConfigError, match=r"^--set 'steps' must have the form"):
        load_config(files / "c.json", ["steps"])


def test_a_folder_is_not_a_config(files):
    with pytest.raises(ConfigError, match="is a folder, but a config file"):
        load_config(files)


def test_the_schema_alone_needs_no_file():
    assert TrainConfig(steps=3).steps == 3

"""Folders and files that are given instead of a config file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.runs import make_images
from stiefel_lora import ConfigError
from stiefel_lora._commands import app
from stiefel_lora.config import load_config
from stiefel_lora.config.importing.sample_files import samples_in
from stiefel_lora.config.presets import find_config, find_preset

REQUIRED = "but a config file or the name of a preset is required"
REQUIRED_TO_IMPORT = "but a config file of another trainer is required"
KINDS = {
    "images": (f"images is a folder, {REQUIRED}", 'new --images "images"'),
    "run": (f"run is a folder, {REQUIRED}", "such as run/config.json"),
    "cat.png": (f"cat.png is an image, {REQUIRED}", 'new --images "."'),
    "cat.AVIF": (f"cat.AVIF is an image, {REQUIRED}", 'new --images "."'),
    "lora.safetensors": ("file with model weights", 'inspect "lora.safetensors"'),
    "empty.json": (f"empty.json is empty, {REQUIRED}", "stiefel-lora new"),
    "cat.txt": (f"cat.txt is not a JSON file, {REQUIRED}", 'import "cat.txt"'),
    "nothing": ("nothing does not exist", "Run stiefel-lora presets"),
}
VERBS = ("train", "validate", "scan", "batch", "study", "queue add", "import")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_images(tmp_path / "images", count=1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    for name in ("cat.png", "cat.AVIF", "lora.safetensors"):
        (tmp_path / name).write_bytes(b"\x89\xff\xfe\xff")
    (tmp_path / "empty.json").touch()
    (tmp_path / "cat.txt").write_text("a cat")
    monkeypatch.setenv("STIEFEL_LORA_QUEUE", str(tmp_path / "queue"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_names_what_it_got_and_what_to_write(here, verb):
    for given, (problem, cure) in KINDS.items():
        if (verb, given) == ("scan", "images"):
            continue
        if verb == "import" and given in ("cat.txt", "nothing"):
            continue
        if verb == "import":
            problem = problem.replace(REQUIRED, REQUIRED_TO_IMPORT)
            cure = cure if given in ("run", "lora.safetensors") else REQUIRED_TO_IMPORT
        done = CliRunner().invoke(app, [*verb.split(), given])
        assert done.exit_code == 2, (given, done.output)
        (line,) = done.stderr.splitlines()
        assert problem in line
        assert cure in line


def test_import_names_no_file_of_this_package(here):
    (here / "empty.yaml").touch()
    (here / "other").mkdir()
    (here / "other" / "train.toml").write_text("network_dim = 4")
    for given, advice in (
        ("empty.yaml", ""),
        ("images", ""),
        ("cat.png", ""),
        ("other", " Use a file in it, such as other/train.toml"),
    ):
        done = CliRunner().invoke(app, ["import", given])
        assert done.exit_code == 2
        assert done.stderr.endswith(f", {REQUIRED_TO_IMPORT}.{advice}\n")


@pytest.mark.parametrize("given", ["empty.txt", "empty.json", "empty.toml"])
def test_sample_prompts_of_an_empty_file(here, given):
    (here / given).touch()
    with pytest.raises(ConfigError, match="empty, but a file with prompts is required"):
        samples_in(given, here, "sdxl")


def test_import_of_a_file_that_does_not_exist(here):
    done = CliRunner().invoke(app, ["import", "nothing.json"])
    assert done.exit_code == 2
    assert done.stderr == "The file nothing.json does not exist.\n"


def test_scan_checks_a_folder_with_the_default_settings(here):
    whole = (here / "images" / "00.png").read_bytes()
    (here / "images" / "cut.png").write_bytes(whole[:60])
    sets = ["--set=resolution=32", "--set=bucket_step=8"]
    done = CliRunner().invoke(app, ["scan", "images", *sets])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == (
        "images: checked with the default settings. Change them with --set KEY=VALUE, "
        "or give a config file."
    )
    assert lines[1].startswith("2 images, 1 per epoch")
    assert "1 image cannot be read and is skipped: cut.png." in lines


def test_a_folder_with_the_name_of_a_preset_is_not_in_its_way(here):
    (here / "demo_stiefel_lora").mkdir()
    assert find_config("demo_stiefel_lora") == find_preset("demo_stiefel_lora")
    assert find_config("images") == Path("images")


def test_a_config_may_have_an_unusual_name(here):
    for name in ("config.txt", "config.png"):
        (here / name).write_text(json.dumps({"steps": 7}))
        assert load_config(name).steps == 7

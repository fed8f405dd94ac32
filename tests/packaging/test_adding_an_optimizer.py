"""docs/adding-an-optimizer.md, run as it stands; and a method of an installed wheel."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.plugin_methods import SIGN_LORA

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "adding-an-optimizer.md"
PAGE_TEXT = PAGE.read_text(encoding="utf-8")
MAIN = "from stiefel_lora.cli import main; main()"

PROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "sign-methods"
version = "1"

[project.entry-points."stiefel_lora.methods"]
sign_lora = "sign_methods.sign_lora"
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE_TEXT, flags=re.DOTALL)


def python(
    *arguments: str, cwd: Path, site: Path | str | None = None
) -> subprocess.CompletedProcess[str]:
    paths = [str(site)] if site else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, str(cwd)])}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of the page."""
    (tmp_path / "sign_lora.py").write_text(blocks("py")[0], encoding="utf-8")
    (tmp_path / "sign.json").write_text(blocks("json")[0], encoding="utf-8")
    return tmp_path


def command(line: str, folder: Path, site: Path | None = None) -> str:
    program, *arguments = shlex.split(line)
    assert program == "stiefel-lora"
    done = python("-c", MAIN, *arguments, cwd=folder, site=site)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_file_has_30_lines_and_keeps_the_contract(folder: Path) -> None:
    assert len([line for line in blocks("py")[0].splitlines() if line.strip()]) <= 30
    done = python("-c", blocks("py")[1], cwd=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_commands_show_it_and_train_two_steps(folder: Path) -> None:
    looked, trained = (block.splitlines() for block in blocks("sh"))
    listed, options, printed = (command(line, folder) for line in looked)
    assert "Signs of the momentum of both factors." in listed
    assert "Decay of the momentum." in options
    assert printed == ""
    schema = json.loads((folder / "train_config.schema.json").read_text("utf-8"))
    tags = schema["properties"]["optimizer"]["discriminator"]["mapping"]
    assert "sign_lora" in tags
    checked, _ = (command(line, folder) for line in trained)
    assert "sign.json is valid: sign_lora, rank 16" in checked
    run = folder / "runs" / "sign"
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert config["optimizer"] == {"name": "sign_lora", "momentum": 0.95}
    assert config["plugins"] == [str(folder / "sign_lora.py")]
    assert (run / "lora" / "sign.safetensors").is_file()
    assert (run / "checkpoints" / "step-2").is_dir()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installed wheel that has an entry point."""
    source = tmp_path_factory.mktemp("source")
    package = source / "sign_methods"
    package.mkdir()
    (source / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "sign_lora.py").write_text(SIGN_LORA, encoding="utf-8")
    built = tmp_path_factory.mktemp("wheel")
    target = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-index"]
    _pip("wheel", source, *options, "--no-build-isolation", "-w", built)
    (wheel,) = built.glob("*.whl")
    _pip("install", wheel, *options, "--target", target)
    return target


def _pip(*arguments: str | Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# Starts as if the method had not been seen; a process each would import torch each.
AS_NEW = """
import sys
from typer.testing import CliRunner
from helpers.plugin_methods import forgetting_plugins
from stiefel_lora._commands import app
from stiefel_lora.config import parse_config
from stiefel_lora.methods import CATALOGUE

parse_config({"optimizer": {"name": "adamw"}})
print("torch" in sys.modules)
for number, line in enumerate(["optimizers", "optimizers sign_lora", "schema"]):
    assert "sign_lora" not in CATALOGUE
    with forgetting_plugins():
        done = CliRunner().invoke(app, line.split())
        assert done.exit_code == 0, done.output
        with open(f"{number}.txt", "w", encoding="utf-8") as file:
            file.write(done.stdout)
    del sys.modules["sign_methods.sign_lora"]
config = parse_config({"optimizer": {"name": "sign_lora"}})
print(config.plugins, config.learning_rate)
del sys.modules["sign_methods.sign_lora"]
with forgetting_plugins():
    pass
from stiefel_lora import create_optimizer
from stiefel_lora.testing import LoraNet
print(type(create_optimizer("sign_lora", LoraNet())).__name__)
"""


def test_an_installed_method_is_listed_and_found_by_its_name(
    site: Path, tmp_path: Path
) -> None:
    place = os.pathsep.join([str(site), str(ROOT / "tests")])
    done = python("-c", AS_NEW, cwd=tmp_path, site=place)
    assert done.stdout.splitlines() == [
        "False",
        "('sign_methods.sign_lora',) 0.001",
        "SignLoRA",
    ], done.stderr
    listed, options, printed = (
        (tmp_path / f"{number}.txt").read_text(encoding="utf-8") for number in range(3)
    )
    assert "sign_lora" in listed
    assert "momentum" in options
    schema = json.loads(printed)
    tags = schema["properties"]["optimizer"]["discriminator"]["mapping"]
    assert "sign_lora" in tags


def test_a_configuration_names_the_package_that_is_gone(tmp_path: Path) -> None:
    text = json.dumps({"plugins": ["sign_methods.sign_lora"]})
    (tmp_path / "gone.json").write_text(text, encoding="utf-8")
    done = python("-c", MAIN, "validate", "gone.json", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        "plugins: the module sign_methods does not exist. Install its package"
        in done.stderr
    )


def test_an_installed_method_that_is_broken_is_a_remark_in_lists(
    site: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    (broken / "sign_methods").mkdir(parents=True)
    (broken / "sign_methods" / "__init__.py").write_text("")
    (broken / "sign_methods" / "sign_lora.py").write_text("import no_such_module\n")
    for info in site.glob("*.dist-info"):
        (broken / info.name).mkdir()
        for file in info.iterdir():
            if file.is_file():
                (broken / info.name / file.name).write_bytes(file.read_bytes())
    done = python("-c", MAIN, "optimizers", cwd=tmp_path, site=broken)
    assert done.returncode == 0
    assert "stiefel_lora" in done.stdout
    assert done.stderr.startswith("Warning: plugins: sign_methods.sign_lora cannot be ")
    done = python("-c", MAIN, "optimizers", "sign_lora", cwd=tmp_path, site=broken)
    assert done.returncode == 2
    assert done.stderr.startswith("plugins: sign_methods.sign_lora cannot be imported")

"""The wheel, built and installed elsewhere, stands on its own."""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")


def _pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing stale in build/ can slip in."""
    copy = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copy(ROOT / name, copy / name)
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("modules", "training_presets"):
        shutil.copytree(ROOT / name, copy / name, ignore=skip)
    target = tmp_path_factory.mktemp("wheel")
    _pip("wheel", copy, "--no-deps", "--no-build-isolation", "--no-index", "-w", target)
    (built,) = target.glob("stiefel_lora-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    _pip("install", wheel, "--no-deps", "--no-index", "--target", target)
    return target


def _run(installed: Path, code: str) -> str:
    """Run code where the wheel comes first and the checkout is out of sight."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=installed,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_holds_the_package_without_the_demo(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "stiefel_lora/py.typed" in names
    assert not [name for name in names if name.startswith("stiefel_lora/demo")]
    assert {name.split("/")[0].split("-")[0] for name in names} == {"stiefel_lora"}


def test_wheel_metadata(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (path,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
    metadata = email.message_from_bytes(archive.read(path))
    assert metadata["Name"] == "stiefel-lora"
    assert metadata["License-Expression"] == "Apache-2.0"
    base = [r for r in metadata.get_all("Requires-Dist") or [] if "extra ==" not in r]
    assert base == ["torch>=2.4"]
    extras = {"train", "ui", "quant", "xformers", "captions", "heif", "optimizers"}
    extras |= {"plots", "cluster", "web", "test", "docs"}
    assert set(metadata.get_all("Provides-Extra") or []) == extras


def test_installed_wheel_is_the_one_imported(installed: Path) -> None:
    output = _run(installed, "import stiefel_lora; print(stiefel_lora.__file__)")
    assert Path(output.strip()).is_relative_to(installed)


def test_installed_wheel_has_every_preset(installed: Path) -> None:
    presets = {
        path.relative_to(ROOT / "training_presets").as_posix()
        for path in (ROOT / "training_presets").rglob("*.json")
    }
    folder = installed / "stiefel_lora" / "presets"
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.json")}
    assert found == presets
    assert presets, "training_presets/ holds no preset"


def test_installed_wheel_has_the_models(installed: Path) -> None:
    package = ROOT / "modules" / "stiefel_lora"
    known = package / "families" / "known"
    expected = {p.relative_to(package) for p in known.rglob("*.*")}
    expected |= {
        Path("checkpoints", name) for name in ("clip_merges.txt.gz", "ATTRIBUTION.md")
    }
    assert Path("families", "known", "sdxl", "unet.json") in expected
    copied = installed / "stiefel_lora"
    assert not [path for path in expected if not (copied / path).is_file()]


def test_console_script_lists_the_presets(installed: Path) -> None:
    code = (
        "import sys, importlib.metadata as m\n"
        "(entry,) = [e for e in m.distribution('stiefel-lora').entry_points\n"
        "            if e.group == 'console_scripts']\n"
        "assert entry.name == 'stiefel-lora'\n"
        "sys.argv = ['stiefel-lora', 'presets']\n"
        "sys.exit(entry.load()())\n"
    )
    # The wheel does not contain the demo model, so its presets are hidden.
    listed = _run(installed, code)
    assert "sdxl_stiefel_lora" in listed
    assert "demo_stiefel_lora" not in listed

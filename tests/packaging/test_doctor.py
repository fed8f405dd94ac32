"""``doctor``: problems are found and come with a command for this environment."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from stiefel_lora import _diagnosis, _install
from stiefel_lora._commands import app
from stiefel_lora._diagnosis import Part, diagnose

# In the CSV format of nvidia-smi; not recorded from a machine with a GPU.
SMI = """name, driver_version, memory.total [MiB]
NVIDIA GeForce RTX 4090, 550.54.14, 24564 MiB
"""


@pytest.fixture(autouse=True)
def imports(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exception]:
    """Imports of the parts, which take seconds, with errors by module."""
    errors: dict[str, Exception] = {}
    real = _diagnosis.importlib.import_module

    def load(name: str) -> Any:
        if name in errors:
            raise errors[name]
        return real(name) if name == "torch" else SimpleNamespace()

    fake = SimpleNamespace(import_module=load, metadata=importlib.metadata)
    monkeypatch.setattr(_diagnosis, "importlib", fake)
    return errors


def _without(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str | None]) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        found = versions.get(name, real(name) if name not in versions else None)
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(importlib.metadata, "version", version)


def _part(found: _diagnosis.Diagnosis, extra: str) -> Part:
    return next(part for part in found.parts if part.extra == extra)


def test_this_environment_can_train() -> None:
    result = CliRunner().invoke(app, ["doctor", "--json"])
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert found["problems"] == []
    assert next(p for p in found["parts"] if p["extra"] == "train")["missing"] == []


def test_a_missing_package_of_training_is_a_problem_with_its_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _without(monkeypatch, {"peft": None})
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "peft missing" in result.stdout
    assert _install.install_command("train") in result.stdout
    assert "Training works" not in result.stdout


def test_a_version_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, {"diffusers": "0.20.0"})
    (missing,) = _part(diagnose(), "train").missing
    assert missing == "diffusers>=0.35 (installed: 0.20.0)"


def test_what_is_optional_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, {"bitsandbytes": None, "xformers": None})
    found = diagnose()
    assert found.problems == []
    assert len([note for note in found.notes if "missing. Install with" in note]) == 2


def test_a_package_that_cannot_be_loaded_is_named(
    imports: dict[str, Exception],
) -> None:
    imports["transformers"] = OSError("libcudart.so.12: cannot open\nmore")
    found = diagnose()
    assert found.is_broken
    assert "transformers: libcudart.so.12: cannot open." in found.problems[0]


def test_a_package_that_breaks_another_one_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # As peft, which imports bitsandbytes if it is installed. Really imported here.
    monkeypatch.setattr(_diagnosis, "importlib", importlib)
    (tmp_path / "outer_part.py").write_text("import inner_part")
    (tmp_path / "inner_part.py").write_text("raise RuntimeError('boom')")
    monkeypatch.syspath_prepend(str(tmp_path))
    installed = {"outer_part": ["outer"], "inner_part": ["inner-part"]}
    monkeypatch.setattr(_diagnosis, "_distributions", lambda: installed)
    monkeypatch.setitem(_diagnosis._IMPORTED, "plots", ("outer_part",))
    part = _part(diagnose(), "plots")
    assert part.broken == "inner_part: boom, imported by outer_part"
    advice = _diagnosis._advice(part)
    assert advice.endswith("pip install --force-reinstall --no-deps inner-part")


def test_torch_that_cannot_be_imported(imports: dict[str, Exception]) -> None:
    imports["torch"] = ImportError("DLL load failed")
    found = diagnose()
    assert found.torch == "not usable"
    assert "torch cannot be imported (DLL load failed)" in found.problems[0]


@pytest.mark.parametrize(
    ("cuda", "advice"),
    [(None, "but torch has no GPU support"), ("11.8", "Update the driver")],
)
def test_a_gpu_that_torch_cannot_use(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, advice: str
) -> None:
    torch = SimpleNamespace(
        __version__="2.13.0",
        version=SimpleNamespace(cuda=cuda, hip=None),
        cuda=SimpleNamespace(is_available=lambda: False),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False)),
    )
    done = SimpleNamespace(stdout=SMI, returncode=0)
    monkeypatch.setattr(_diagnosis, "_torch", lambda: (torch, ""))
    monkeypatch.setattr(_diagnosis.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(_diagnosis.subprocess, "run", lambda *_, **__: done)
    (note,) = [note for note in diagnose().notes if "RTX 4090" in note]
    assert advice in note
    assert "driver 550.54.14, 24564 MiB" in note


class TestInstallCommand:
    def test_names_the_folder_that_the_package_came_from(self) -> None:
        command = _install.install_command("quant")
        assert sys.executable in command
        assert command.endswith('[quant]"')
        assert '"stiefel-lora[' not in command

    def test_names_the_requirements_where_the_folder_is_gone(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_install, "_source", lambda: (None, False))
        command = _install.install_command("quant", "ui")
        assert '"bitsandbytes>=0.45"' in command
        assert '"pyqtgraph>=0.13.7"' in command
        assert "stiefel" not in command.split("install ", 1)[1]

    def test_a_python_with_a_space_in_its_path(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "executable", "/home/a b/bin/python")
        assert _install.pip_command("x") == '"/home/a b/bin/python" -m pip install x'

    def test_does_not_change_which_distutils_is_imported(self) -> None:
        code = (
            "import setuptools._distutils.core as ours, sys\n"
            "from stiefel_lora._install import install_command\n"
            "install_command('quant')\n"
            "import distutils.core as found\n"
            "print(found.__file__ == ours.__file__)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout == "True\n"

    def test_an_environment_of_uv(self, monkeypatch: pytest.MonkeyPatch) -> None:
        _without(monkeypatch, {"pip": None})
        monkeypatch.setattr(sys, "executable", "/v/bin/python")
        expected = 'uv pip install --python "/v/bin/python" x'
        assert _install.pip_command("x") == expected

"""OneTrainer's launcher and drop-in, on the stand-in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from onetrainer_stand_in import HOST

LAUNCH = [sys.executable, "-m", "stiefel_lora.integrations.onetrainer.launch"]


def launch(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAUNCH, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def write(path: Path, optimizer: str, more: str = "") -> None:
    path.write_text(f'{{"optimizer": {{"optimizer": "{optimizer}"}}{more}}}', "utf-8")


def test_the_launcher_trains_with_a_method(tmp_path: Path) -> None:
    write(tmp_path / "my config.json", "Stiefel LoRA")
    done = launch(HOST, "train", "--config-path", "my config.json", cwd=tmp_path)
    assert "optimizer: StiefelLoRA" in done.stdout, done.stderr
    assert "effective_rank/mean" in done.stdout
    assert "is 3e-06, while the default of Stiefel LoRA is" in done.stdout
    assert done.returncode == 0


@pytest.mark.slow
def test_children_of_the_launcher_know_the_method(tmp_path: Path) -> None:
    write(tmp_path / "config.json", "StelLA", ', "multi_gpu": true')
    done = launch(HOST, "train", "--config-path=config.json", cwd=tmp_path)
    assert "child: StelLA" in done.stdout, done.stderr


def test_the_launcher_explains_errors(tmp_path: Path) -> None:
    write(tmp_path / "config.json", "Stifel LoRA")
    done = launch(HOST, "train", "--config-path", "config.json", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "There is no optimizer 'Stifel LoRA'. Did you mean Stiefel LoRA?"
    )
    done = launch(tmp_path, "ui", cwd=tmp_path)
    assert done.returncode == 2
    assert "is not a OneTrainer folder" in done.stderr


@pytest.mark.slow
def test_the_dropin_works_without_the_launcher(tmp_path: Path) -> None:
    root = tmp_path / "host"
    shutil.copytree(HOST, root, ignore=shutil.ignore_patterns("__pycache__"))
    write(root / "config.json", "Stiefel LoRA")
    write(root / "wrong.json", "Stifel LoRA")
    before = sorted(root.rglob("*.py"))
    assert launch(root, "install-dropin", cwd=tmp_path).returncode == 0
    code = (
        "import sys; sys.path.insert(0, '.'); import train; train.main(); "
        "sys.argv[-1] = 'wrong.json'; train.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--config-path", "config.json"],
        cwd=root,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(root / "scripts"), *sys.path]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert "optimizer: StiefelLoRA" in done.stdout, done.stderr
    assert "ConfigError: There is no optimizer 'Stifel LoRA'" in done.stderr
    assert launch(root, "remove-dropin", cwd=tmp_path).returncode == 0
    assert sorted(root.rglob("*.py")) == before
    done = launch(root, "remove-dropin", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_what_trains_nothing_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from stiefel_lora.integrations.onetrainer.launch import main; "
        "code = main([sys.argv[1], 'install-dropin']); print('torch' in sys.modules); "
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "is not a OneTrainer folder" in done.stderr
    assert done.stdout == "False\n"

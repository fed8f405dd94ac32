"""Tests on several cores: what each step runs, and what processes share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import run_tests

ROOT = Path(__file__).resolve().parents[2]
CONFTEST = """
import pytest
from helpers.shared import shared_folder

@pytest.fixture(scope="session")
def model(request):
    def build(folder):
        folder.mkdir()
        (folder / "weights").write_text("1")
        with open("built.txt", "a") as file:
            file.write("once\\n")
    return shared_folder(request, "model", build)
"""
TEST = """
import pytest

@pytest.mark.parametrize("number", range(6))
def test_it(model, number):
    assert (model / "weights").read_text() == "1"
    with open(f"{number}.txt", "w") as file:
        file.write(str(model))
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "3"])
def test_a_shared_folder_is_built_once_in_a_run(tmp_path: Path, workers: str) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TEST)
    plain = ["-q", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "temporary")]
    for runs in (1, 2):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *plain, "-n", workers, "test_it.py"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert (tmp_path / "built.txt").read_text() == "once\n" * runs
        assert len({(tmp_path / f"{n}.txt").read_text() for n in range(6)}) == 1


@pytest.mark.parametrize(
    ("step", "mark"),
    [("tests", "not slow and not soak"), ("slow", "slow"), ("soak", "soak")],
)
def test_each_test_is_selected_once(step: str, mark: str) -> None:
    beside, alone = run_tests.commands(step, 2)
    assert beside[-2:] == ["-m", f"({mark}) and not alone"]
    assert alone[-2:] == ["-m", f"({mark}) and alone"]
    assert beside[beside.index("-n") + 1] == "2"
    assert "-n" not in alone
    for command in (beside, alone):
        assert command[command.index("--skip-list") + 1] == "tests/skips.txt"


def test_every_step_has_commands() -> None:
    for step in (*run_tests.STEPS, *run_tests.APART):
        assert run_tests.commands(step, 1)
    assert 1 <= run_tests.cores() <= run_tests.MOST_WORKERS


def test_no_test_alone_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    codes = iter([0, run_tests.NO_TESTS, run_tests.NO_TESTS])
    monkeypatch.setattr(run_tests, "run", lambda *args, **kwargs: next(codes))
    todo = run_tests.commands("soak", 2)
    assert run_tests._step("soak", todo, Path(sys.executable), tmp_path)[0]
    # Nothing selected at all is a mistake in the marks.
    assert not run_tests._step("soak", todo[:1], Path(sys.executable), tmp_path)[0]

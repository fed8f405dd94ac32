"""The environment of another tool: arguments are checked before anything is made."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import _bootstrap
import setup_host
from _environment import Checkout
from _torch_build import ANY_SOURCE, TorchSource


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a checkout of OneTrainer and of mgds, as far as they are read."""
    for name in ("OneTrainer/modules/util/create.py", "data loader/src/mgds/a.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "OneTrainer" / "musubi").mkdir()
    (tmp_path / "OneTrainer" / "musubi" / "wan_train_network.py").touch()
    (tmp_path / "wheels").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What pip would have been given."""
    made: list[list[str]] = []

    def prepare(checkout: Any, source: TorchSource) -> Path:
        made.append(["torch", str(source.index)])
        return Path("held.txt")

    def beside(
        checkout: Any, package: str, constraints: Path, source: TorchSource
    ) -> None:
        made.append([package, "beside torch", str(constraints), str(source.index)])

    monkeypatch.setattr(setup_host, "prepare", prepare)
    monkeypatch.setattr(setup_host, "install_beside_torch", beside)
    monkeypatch.setattr(setup_host, "pip", lambda _, wanted, title: made.append(wanted))
    done = SimpleNamespace(returncode=0)
    run = SimpleNamespace(run=lambda *_, **__: done)
    monkeypatch.setattr(setup_host, "subprocess", run)
    return made


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["setup_host.py", *arguments])
    return setup_host.main()


def test_a_relative_mgds_is_installed_by_its_whole_path(
    root: Path, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, "onetrainer", "OneTrainer", "--mgds", "data loader") == 0
    whole = str((root / "data loader").resolve())
    assert ["install", "--no-deps", whole] in calls


def test_without_mgds_the_tested_version_is_installed(
    root: Path, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, "onetrainer", "OneTrainer") == 0
    assert ["install", "--no-deps", setup_host.MGDS] in calls
    given = "mgds @ git+https://example.invalid/mgds.git"
    assert run(monkeypatch, "onetrainer", "OneTrainer", "--mgds", given) == 0
    assert ["install", "--no-deps", given] in calls


def test_torchvision_is_held_at_the_pair_of_torch_from_its_index(
    root: Path, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, "onetrainer", "OneTrainer") == 0
    beside = ["torchvision", "beside torch", "held.txt"]
    assert [*beside, "None"] in calls
    address = "https://index.invalid/cpu"
    given = ("onetrainer", "OneTrainer", "--torch-index")
    assert run(monkeypatch, *given, address) == 0
    assert [*beside, address] in calls
    # pip runs in the checkout, where a relative folder is another one.
    assert run(monkeypatch, *given, "wheels") == 0
    folder = (root / "wheels").resolve().as_uri()
    assert ["torch", folder] in calls


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["onetrainer", "OneTrainer", "--mgds", "mgds"], "is not a checkout of mgds"),
        (["onetrainer", "OneTrainer", "--mgds", "wheels"], "is not a checkout of mgds"),
        (["onetrainer", "wheels"], "is not a checkout of onetrainer"),
        (
            ["musubi-tuner", "OneTrainer/musubi", "--mgds", "data loader"],
            "--mgds: only used with onetrainer",
        ),
        (
            ["onetrainer", "OneTrainer", "--torch-index", "cpu"],
            "--torch-index: 'cpu' is neither an address",
        ),
    ],
)
def test_a_bad_argument_is_a_message_before_anything_is_made(
    root: Path,
    calls: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert run(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert calls == []


@pytest.mark.parametrize(
    ("torch", "pins"),
    [
        ("2.13.0+cpu", ["torchvision==0.28.0\n"]),
        ("2.14.1", ["torchvision==0.29.1\n"]),
        ("2.9.1+cu130", ["torchvision==0.24.1\n"]),
        ("2.4.0", ["torchvision==0.19.0\n"]),
        ("2.15.0.dev20261101+cu130", []),
        ("3.0.0", []),
    ],
)
def test_the_pair_of_a_torch(torch: str, pins: list[str]) -> None:
    assert _bootstrap._torchvision_pin(torch) == pins


def test_the_constraints_hold_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".venv").mkdir()
    monkeypatch.setattr(_bootstrap, "_make_venv", lambda _: None)
    monkeypatch.setattr(_bootstrap, "torch_version", lambda _: "2.13.0+cpu")
    held = _bootstrap.prepare(Checkout(tmp_path), ANY_SOURCE)
    assert held.read_text() == "torch==2.13.0+cpu\ntorchvision==0.28.0\n"


def test_a_torchvision_that_does_not_load_is_reported(
    root: Path,
    calls: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    failed = SimpleNamespace(
        returncode=1, stderr="Traceback\nRuntimeError: operator nms does not exist\n"
    )
    monkeypatch.setattr(
        setup_host, "subprocess", SimpleNamespace(run=lambda *_, **__: failed)
    )
    assert run(monkeypatch, "onetrainer", "OneTrainer") == 0
    printed = capsys.readouterr()
    assert "torchvision does not load with this torch (RuntimeError: ope" in (
        printed.err
    )
    assert "Done" in printed.out

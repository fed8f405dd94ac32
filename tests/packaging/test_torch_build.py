"""The selected torch, with outputs of uv 0.13.9, recorded on a machine without network.

Only the host in the addresses was replaced.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import pytest

import _torch_build
from _environment import Checkout, InstallError
from _torch_build import TorchSource, add_torch_options, install_torch, torch_source

UNREACHABLE = """Using Python 3.11.7 environment at: v
error: Request failed after 3 retries in 10.9s
  cause: Failed to fetch: https://index.invalid/cpu/torch/
  cause: error sending request for url (https://index.invalid/cpu/torch/)
  cause: client error (Connect)
  cause: dns error
  cause: error resolving DNS
  cause: failed to lookup address information: Name or service not known
"""
NO_SUCH_BUILD = """Using Python 3.11.7 environment at: v
error: No solution found when resolving dependencies
  cause: Because there is no version of torch==2.13.0 and you require torch==2.13.0, \
we can conclude that your requirements are unsatisfiable.
"""
NO_UV = "The package server cannot be reached. Check the network.\n\n  | the end"


class Machine:
    """Records commands; answers for uv and pip."""

    def __init__(self, *answers: str, uv_installs: bool = True) -> None:
        self.answers, self.uv_installs = list(answers), uv_installs
        self.pip_calls: list[list[str]] = []
        self.uv_calls: list[list[str]] = []
        self.env: list[Mapping[str, str]] = []

    def pip(self, checkout: Checkout, arguments: list[str], title: str) -> None:
        if arguments == ["install", "uv"] and not self.uv_installs:
            raise InstallError(NO_UV)
        self.pip_calls.append(arguments)

    def logged(
        self,
        checkout: Checkout,
        command: list[str],
        title: str,
        env: Mapping[str, str],
    ) -> tuple[int, str]:
        self.uv_calls.append(command)
        self.env.append(env)
        answer = self.answers.pop(0)
        return int("error:" in answer), answer


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Install torch on a machine that gives these answers."""

    def run(machine: Machine, source: TorchSource = TorchSource()) -> Machine:  # noqa: B008
        monkeypatch.setattr(_torch_build, "pip", machine.pip)
        monkeypatch.setattr(_torch_build, "logged", machine.logged)
        monkeypatch.setattr(_torch_build, "output_of", lambda command: "")
        install_torch(Checkout(tmp_path), source)
        return machine

    return run


def backend_and_requirement(command: list[str]) -> tuple[str, str]:
    return command[command.index("--torch-backend") + 1], command[-1]


def test_uv_chooses_the_build(start) -> None:
    machine = start(Machine("Installed 1 package\n"))
    (command,) = machine.uv_calls
    assert backend_and_requirement(command) == ("auto", _torch_build.TORCH)
    assert machine.pip_calls == [["install", "uv"]]


def test_an_old_driver_gets_an_older_torch(start) -> None:
    machine = start(Machine(NO_SUCH_BUILD, "Installed 1 package\n"))
    assert [backend_and_requirement(command)[1] for command in machine.uv_calls] == [
        _torch_build.TORCH,
        _torch_build.ANY_TORCH,
    ]


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        (Machine(UNREACHABLE), "Request failed after 3 retries in 10.9s: failed to"),
        (Machine(uv_installs=False), "The package server cannot be reached."),
    ],
)
def test_without_uv_or_its_index_pip_installs_and_the_reason_is_printed(
    start, capsys: pytest.CaptureFixture[str], machine: Machine, reason: str
) -> None:
    start(machine)
    printed = capsys.readouterr().out
    assert f"uv could not choose a torch build: {reason}" in printed
    assert "Using pip's build instead." in printed
    assert machine.pip_calls[-1][-1] == _torch_build.TORCH


def test_a_backend_that_was_asked_for_is_never_replaced(start) -> None:
    with pytest.raises(InstallError, match=r"--torch-backend cu128: Request failed"):
        start(Machine(UNREACHABLE), TorchSource(backend="cu128"))


def test_an_index_needs_no_uv(start) -> None:
    machine = start(Machine(), TorchSource(index="https://index.invalid/cu130"))
    assert not machine.uv_calls
    (call,) = machine.pip_calls
    assert call[-2:] == ["--index-url", "https://index.invalid/cu130"]


def test_uv_uses_the_mirror_of_pip(start, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine("Installed 1 package\n")
    monkeypatch.setattr(_torch_build, "pip", machine.pip)
    monkeypatch.setattr(_torch_build, "logged", machine.logged)
    address = "https://mirror.invalid/simple"
    monkeypatch.setattr(_torch_build, "output_of", lambda command: address)
    install_torch(Checkout(Path()), TorchSource())
    assert machine.env == [{"UV_DEFAULT_INDEX": address}]


def test_the_two_options_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_torch_options(parser)
    given = parser.parse_args(["--torch-backend", "cpu"])
    assert torch_source(given) == TorchSource(backend="cpu")
    with pytest.raises(SystemExit):
        parser.parse_args(["--torch-backend", "cpu", "--torch-index", "x"])
    assert "not allowed with" in capsys.readouterr().err

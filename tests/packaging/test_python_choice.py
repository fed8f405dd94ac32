"""The Python of the environment: a version that is too new for torch is passed over."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import _python_choice
from _environment import Checkout, InstallError
from _python_choice import NEWEST, base_python

TOO_NEW = (NEWEST[0], NEWEST[1] + 1, 0, "final", 0)


def test_a_suitable_python_is_used(tmp_path: Path) -> None:
    assert base_python(Checkout(tmp_path)) == sys.executable


@pytest.mark.skipif(os.name == "nt", reason="Windows has no executable scripts")
def test_the_newest_suitable_python_on_the_path_replaces_one_that_is_too_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """3.13 has no venv, as on Debian without python3-venv."""
    for minor, code in ((13, 1), (12, 0), (11, 0)):
        script = tmp_path / f"python3.{minor}"
        script.write_text(f"#!/bin/sh\necho 1\nexit {code}\n", encoding="utf-8")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=None)
    monkeypatch.setattr(_python_choice.sys, "version_info", TOO_NEW)
    assert base_python(Checkout(tmp_path)) == str(tmp_path / "python3.12")
    printed = capsys.readouterr().out
    assert f"torch has no builds for Python 3.{TOO_NEW[1]}" in printed
    assert "Using" in printed


class Helper:
    """The environment in which uv runs, made of files that nothing starts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, downloaded: str) -> None:
        self.titles: list[str] = []
        self.downloaded = downloaded
        monkeypatch.setattr(_python_choice, "_installed", lambda: "")
        monkeypatch.setattr(_python_choice, "output_of", self.output_of)
        monkeypatch.setattr(_python_choice, "pip", lambda *given: None)
        monkeypatch.setattr(_python_choice, "logged", self.logged)
        monkeypatch.setattr(_python_choice.sys, "version_info", TOO_NEW)

    def output_of(self, command: list[str | Path]) -> str:
        if "venv" in command:
            python = Checkout(Path(command[-1]).parent).python
            python.parent.mkdir(parents=True)
            python.touch()
        return self.downloaded if "find" in command else ""

    def logged(self, *given: object) -> tuple[int, str]:
        failed = "  cause: failed to lookup address information: Name or service"
        return int(not self.downloaded), "" if self.downloaded else failed


def test_uv_downloads_a_python_if_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python3.12"
    python.touch()
    Helper(monkeypatch, str(python))
    assert base_python(Checkout(tmp_path)) == str(python)


def test_without_any_python_the_message_names_the_version_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Helper(monkeypatch, "")
    expected = r"could not be downloaded \(cause: failed.*Install Python 3\.12 and run"
    with pytest.raises(InstallError, match=expected):
        base_python(Checkout(tmp_path))

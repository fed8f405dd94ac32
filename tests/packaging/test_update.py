"""update.py on real git repositories; what it installs is not part of this."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import update
from _environment import Checkout


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    command = ["git", "-C", folder, *identity, *arguments]
    subprocess.run(command, check=True, capture_output=True)


def commit(folder: Path, text: str) -> None:
    (folder / "file.txt").write_text(text, encoding="utf-8")
    git(folder, "add", "file.txt")
    git(folder, "commit", "--message", text)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    origin = tmp_path / "origin"
    origin.mkdir()
    git(origin, "init", "--initial-branch", "main")
    commit(origin, "one")
    git(tmp_path, "clone", str(origin), "clone")
    return tmp_path / "clone"


def test_new_commits_are_fetched(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert update._pull(Checkout(clone)) == ""
    assert "Already at the newest commit." in capsys.readouterr().out
    commit(clone.parent / "origin", "two")
    assert update._pull(Checkout(clone)) == ""
    assert "Updated by 1 commit to " in capsys.readouterr().out
    assert (clone / "file.txt").read_text("utf-8") == "two"


def test_edited_files_are_never_overwritten(clone: Path) -> None:
    commit(clone.parent / "origin", "two")
    (clone / "file.txt").write_text("mine", encoding="utf-8")
    error = update._pull(Checkout(clone))
    assert "git pull failed, and nothing was changed" in error
    assert "file.txt" in error
    assert (clone / "file.txt").read_text("utf-8") == "mine"


def test_a_downloaded_folder_cannot_be_pulled(tmp_path: Path) -> None:
    assert "is not a git clone" in update._pull(Checkout(tmp_path))

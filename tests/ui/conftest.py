"""A home of its own for every test of the window; those with Qt are in ``window``."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the window's files and the queue of the tests apart from the user's."""
    home = tmp_path / "home"
    monkeypatch.setenv("STIEFEL_LORA_UI", str(home))
    monkeypatch.setenv("STIEFEL_LORA_QUEUE", str(home / "queue"))
    return home

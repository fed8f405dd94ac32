"""The window's command where no window can be opened."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["assert_one_message"]

_MODULES = str(Path(__file__).resolve().parents[2] / "modules")
_OUT = {"DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"}


def assert_one_message(variables: dict[str, str], *reasons: str) -> None:
    """``stiefel-lora ui`` must end with code 2 and a line with one of the reasons."""
    environment = {k: v for k, v in os.environ.items() if k not in _OUT}
    environment |= {"XDG_RUNTIME_DIR": "/nonexistent", "PYTHONPATH": _MODULES}
    done = subprocess.run(
        [sys.executable, "-m", "stiefel_lora", "ui"],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("The GUI cannot be opened: ")
    assert any(reason in line for reason in reasons)
    assert "stiefel-lora train CONFIG" in line

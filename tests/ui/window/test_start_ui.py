"""The window that start-ui opens, in a process as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
# In place of the installation of start-ui, which takes minutes and downloads packages.
START = """
import sys
from pathlib import Path
import train_ui
train_ui.install = lambda *_: Path(sys.executable)
sys.exit(train_ui.main())
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs process groups")
def test_start_ui_shows_the_window_with_the_demo(own_home: Path, tmp_path: Path):
    started = subprocess.Popen(
        [sys.executable, "-c", START],
        cwd=tmp_path,
        env={
            **os.environ,
            "QT_QPA_PLATFORM": "offscreen",
            "PYTHONPATH": str(SCRIPTS),
        },
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    saved = own_home / "window.json"
    deadline = time.monotonic() + 300
    try:
        # The window saves its state a second after the demo was loaded in it.
        while not saved.is_file() and time.monotonic() < deadline:
            assert started.poll() is None, started.communicate()[1]
            time.sleep(0.1)
    finally:
        os.killpg(started.pid, signal.SIGINT)
        errors = started.communicate(timeout=60)[1]
    state = json.loads(saved.read_text(encoding="utf-8"))
    assert Path(state["source"]).stem == "demo_stiefel_lora"
    assert state["size"][0] > 700
    assert state["first"] is False
    assert "Traceback" not in errors.replace("KeyboardInterrupt", "")

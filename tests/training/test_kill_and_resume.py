"""A run that is killed and resumed ends as one that was not, to the bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def farm(model: Path, root: Path, *options: str) -> str:
    path = os.pathsep.join([str(ROOT / "modules"), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-m", "helpers.kill_farm", str(model), str(root), *options],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


# Runs are repeated from their checkpoints until the kills are spent: on a busy machine
# that takes minutes.
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork (not on Windows)")
def test_two_kills(tiny_sdxl: Path, tmp_path: Path) -> None:
    assert farm(tiny_sdxl, tmp_path, "--kills", "2").count("killed after") == 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork (not on Windows)")
@pytest.mark.parametrize("optimizer", ["stiefel_lora", "adamw"])
def test_eight_kills(tiny_sdxl: Path, tmp_path: Path, optimizer: str) -> None:
    printed = farm(tiny_sdxl, tmp_path, "--kills", "8", "--optimizer", optimizer)
    assert printed.count("killed after") == 8

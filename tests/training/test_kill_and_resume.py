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
@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_two_kills(request: pytest.FixtureRequest, tmp_path: Path, family: str) -> None:
    model = request.getfixturevalue(f"tiny_{family}")
    printed = farm(model, tmp_path, "--kills", "2", "--family", family)
    assert printed.count("killed after") == 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork (not on Windows)")
@pytest.mark.parametrize("family", ["sdxl", "flux"])
@pytest.mark.parametrize("optimizer", ["stiefel_lora", "adamw"])
def test_eight_kills(
    request: pytest.FixtureRequest, tmp_path: Path, optimizer: str, family: str
) -> None:
    model = request.getfixturevalue(f"tiny_{family}")
    options = ("--kills", "8", "--optimizer", optimizer, "--family", family)
    printed = farm(model, tmp_path, *options)
    assert printed.count("killed after") == 8


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork (not on Windows)")
@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_four_kills_with_buckets_masks_and_a_text_encoder(
    request: pytest.FixtureRequest, tmp_path: Path, family: str
) -> None:
    model = request.getfixturevalue(f"tiny_{family}")
    printed = farm(model, tmp_path, "--kills", "4", "--family", family, "--everything")
    assert printed.count("killed after") == 4

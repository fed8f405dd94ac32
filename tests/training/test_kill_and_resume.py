"""A run that is killed and resumed ends as one that was not, to the bit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from helpers import kill_farm
from helpers.forked import start_forked


def farm(model: Path, root: Path, *options: str) -> str:
    log = root / "farm.txt"
    run = start_forked(kill_farm.main, [str(model), str(root), *options], log=log)
    run.join()
    printed = log.read_text(encoding="utf-8")
    print(printed)
    assert run.exitcode == 0, printed
    return printed


# Runs are repeated from their checkpoints until the kills are spent: on a busy machine
# that takes minutes.
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork (not on Windows)")
@pytest.mark.parametrize(
    "family", [pytest.param("sdxl", marks=pytest.mark.slow), "flux"]
)
def test_two_kills(request: pytest.FixtureRequest, tmp_path: Path, family: str) -> None:
    model = request.getfixturevalue(f"tiny_{family}")
    printed = farm(model, tmp_path, "--kills", "2", "--steps", "6", "--family", family)
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

"""A hundred files at once: no more open files than for one."""

from __future__ import annotations

import os
import re

import pytest
import torch
from typer.testing import CliRunner

from helpers.lora_files import dense, make, write
from stiefel_lora import _commands
from stiefel_lora.files import open_lora

resource = pytest.importorskip("resource")
COUNT = 100


@pytest.fixture
def few_handles():
    """Allow ten more open files than there are."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.open(os.devnull, os.O_RDONLY)
    os.close(spare)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 10, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_inspect_and_merge(tmp_path, few_handles):
    files = [
        write(tmp_path / f"{n}.safetensors", make(seed=n, ranks=(1, 1, 1)))
        for n in range(COUNT)
    ]

    def run(*options: object) -> str:
        result = CliRunner().invoke(_commands.app, ["lora", *map(str, options)])
        assert result.exit_code == 0, result.stderr
        return result.stdout

    paths = [file.path for file in files]
    shown = run("inspect", *paths, "--html", tmp_path / "page.html")
    for file in files:
        assert re.search(rf"{file.path.name} .* {file.size / 1e6:.2f} MB", shown)
    assert "Sections and layers are shown for up to 6 files" in shown
    assert "99.safetensors" in run("inspect", *paths[:5], paths[99])
    out = tmp_path / "out.safetensors"
    weighted = [f"{path}:0.5" for path in paths]
    run("merge", *weighted, "--output", out, "--no-verify")
    found = dense(open_lora(out))
    exact = [dense(file) for file in files]
    for key, update in found.items():
        total = 0.5 * torch.stack([one[key] for one in exact]).sum(0)
        assert torch.allclose(update, total, atol=1e-5), key

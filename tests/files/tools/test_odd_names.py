"""File names that are not UTF-8 in every verb."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from helpers.lora_files import make, write
from stiefel_lora import cli
from stiefel_lora.files import open_lora

ALIKE = {"ranks": (4, 4, 4), "alphas": (4.0, 4.0, 4.0)}
LDM = "model.diffusion_model.input_blocks.4.1.proj_in.weight"


@pytest.fixture
def run(monkeypatch):
    """The command line with streams as a terminal has them; code and both texts."""

    def call(*arguments: object) -> tuple[int, str, str]:
        streams = [
            io.TextIOWrapper(io.BytesIO(), "utf-8", errors=errors)
            for errors in ("strict", "backslashreplace")
        ]
        with monkeypatch.context() as patched:
            patched.setattr(sys, "argv", ["stiefel-lora", "lora", *map(str, arguments)])
            patched.setattr(sys, "stdout", streams[0])
            patched.setattr(sys, "stderr", streams[1])
            with pytest.raises(SystemExit) as ended:
                cli.main()
        texts = []
        for stream in streams:
            stream.flush()
            texts.append(stream.buffer.getvalue().decode("utf-8"))  # pyrefly: ignore
        return int(ended.value.code or 0), texts[0], texts[1]

    return call


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder whose name is not UTF-8; skipped where there are no such names."""
    path = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        path.mkdir()
    except OSError:
        pytest.skip("no such names in this file system")
    return path


def test_a_name_that_is_not_utf_8(run, folder):
    name = os.fsdecode(b"\xff.safetensors")
    one, two = folder / name, folder / f"2{name}"
    write(one, make(**ALIKE))
    write(two, make(seed=1, **ALIKE))
    base, tuned = folder / f"base{name}", folder / f"tuned{name}"
    for path, seed in ((base, 0), (tuned, 1)):
        weight = torch.randn(7, 6, generator=torch.Generator().manual_seed(seed))
        safetensors.torch.save_file({LDM: weight}, path)
    out = {key: folder / f"{key}{name}" for key in ("r", "m", "c", "i", "e")}
    into = folder / f"into{name}"
    only = folder / f"only{name}"
    first = {k: t for k, t in make(**ALIKE).items() if "proj_in" in k}
    write(only, first)
    verbs = [
        ("inspect", one),
        ("inspect", one, two, "--layers", "--html", folder / f"page{name}.html"),
        ("resize", one, "--rank", 2, "--output", out["r"]),
        ("merge", f"{one}:0.7", two, "--output", out["m"]),
        ("convert", one, "--to", "peft", "--output", out["c"]),
        ("convert", one, "--to", "peft-folder", "--output", folder / "own"),
        ("merge", only, "--into", base, "--output", into),
        ("extract", base, tuned, "--rank", 2, "--output", out["e"]),
        ("verify", one),
        ("verify", folder / "own"),
        ("overlap", one, two),
    ]
    for verb in verbs:
        code, shown, errors = run(*verb)
        assert code == 0, (verb, errors)
        assert shown
        assert "rejects" not in shown, verb
    code, shown, _ = run("inspect", one, "--json")
    assert json.loads(shown)["path"] == str(one)
    lineage = json.loads(open_lora(out["m"]).metadata["stiefel_lora_lineage"])
    assert [x["name"] for x in lineage["parents"]] == [one.name, two.name]
    code, _, errors = run("inspect", folder / f"missing{name}")
    assert code == 2
    assert r"missing\udcff.safetensors does not exist" in errors
    code, _, errors = run("resize", one, "--rank", 2, "--output", one)
    assert code == 2
    assert r"\udcff.safetensors is an input file" in errors

"""The command ``import``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stiefel_lora import _commands

SAME = (
    "--optimizer_type AdamW --network_dim 8 --network_alpha 8 --caption_extension .txt"
)


def _run(*arguments: str):
    return CliRunner().invoke(_commands.app, ["import", *arguments])


def test_a_command_line_is_written_as_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = _run("--", "train_network.py", *SAME.split(), "--output_name", "cats")
    assert found.exit_code == 0, found.stderr
    assert "network_dim = 8 -> lora_rank = 8" in found.stdout
    data = json.loads((tmp_path / "cats_imported.json").read_text(encoding="utf-8"))
    assert (data["lora_rank"], data["model_type"]) == (8, "sd15")
    # A file is never replaced.
    again = _run("--", "train_network.py", *SAME.split(), "--output_name", "cats")
    assert again.exit_code != 0
    assert "exists. Choose another file with --output." in again.stderr
    # Before the report.
    assert "lora_rank" not in again.stdout


def test_strict_ends_with_2_if_training_differs(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text(
        f"train_network.py {SAME} --token_warmup_step 2\n", encoding="utf-8"
    )
    output = str(tmp_path / "a.json")
    assert _run(str(path), "-o", output).exit_code == 0
    strict = _run(str(path), "-o", str(tmp_path / "b.json"), "--strict")
    assert strict.exit_code == 2
    assert "! token_warmup_step = 2" in strict.stdout
    # Written nevertheless, with the report.
    assert (tmp_path / "b.json").is_file()
    path.write_text(f"train_network.py {SAME}\n", encoding="utf-8")
    assert _run(str(path), "-o", str(tmp_path / "c.json"), "--strict").exit_code == 0


def test_the_family_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text(f"x {SAME}\n", encoding="utf-8")
    output = tmp_path / "a.json"
    assert _run(str(path), "-o", str(output), "--family", "SDXL").exit_code == 0
    assert "model_type" not in json.loads(output.read_text(encoding="utf-8"))
    wrong = _run(str(path), "-o", str(tmp_path / "b.json"), "--family", "sd3")
    assert wrong.exit_code == 2
    assert "--family must be sdxl, sd15 or flux, but got 'sd3'." in wrong.stderr

"""``stiefel-lora new``: a configuration from three answers."""

from __future__ import annotations

import errno
import importlib
import io
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from helpers.runs import make_images
from stiefel_lora import ConfigError, _commands, _diagnosis
from stiefel_lora.config import check_complete, load_config, parse_config
from stiefel_lora.config.checks import remarks
from stiefel_lora.jobs.new_config import KINDS, propose


def run(*args: str, **more: Any) -> Any:
    return CliRunner().invoke(_commands.app, ["new", *args], **more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_images(tmp_path / "my cat", count=25)


def proposed(kind: Any, folder: Path, **more: Any) -> Any:
    found = propose(kind, folder, **{"vram": 12, **more})
    return parse_config(found.data), found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["sdxl", "sd15", "flux"])
def test_every_proposal_can_be_trained_and_has_its_reasons(
    kind: Any, family: str, folder: Path
) -> None:
    config, found = proposed(kind, folder, family=family)
    check_complete(config)
    assert not remarks(config)
    assert not any("[trigger]" in sample.prompt for sample in config.samples) or (
        config.trigger_word
    )
    assert config.optimizer.name == "stiefel_lora"
    for key in (
        *("steps", "lora_rank", "layer_filter_preset", "resolution", "learning_rate"),
    ):
        assert found.reasons[key].startswith(f"{getattr(config, key)}: ")
    assert {"optimizer", "trigger_word", "extends"} < found.reasons.keys()
    assert all("\n" not in reason for reason in found.reasons.values())


@pytest.mark.parametrize(
    ("kind", "images", "steps", "reason"),
    [
        # 4 images per step.
        (
            "character",
            4,
            300,
            "4 images x 100 times / 4 per step, at least 300",
        ),
        ("character", 25, 630, "25 images x 100 times / 4 per step, common"),
        ("concept", 25, 630, "25 images x 100 times / 4 per step, common"),
        ("style", 25, 380, "25 images x 60 times / 4 per step, common"),
        ("style", 200, 2000, "60 times / 4 per step, at most the 2000 of the preset"),
    ],
)
def test_steps_follow_from_the_number_of_images(
    kind: Any, images: int, steps: int, reason: str, tmp_path: Path
) -> None:
    config, found = proposed(kind, make_images(tmp_path / "images", count=images))
    assert config.steps == steps
    assert reason in found.reasons["steps"]
    assert config.validation_split == (0.1 if images >= 20 else 0)
    assert bool(config.validate_every) == (images >= 20)


@pytest.mark.parametrize(
    ("kind", "images", "rate"),
    [("style", 25, 0.02), ("character", 25, 0.04), ("style", 200, 0.01)],
)
def test_learning_rate_and_warmup_fit_the_length(
    kind: Any, images: int, rate: float, tmp_path: Path
) -> None:
    config, found = proposed(kind, make_images(tmp_path / "images", count=images))
    assert config.learning_rate == rate
    assert config.resolved_warmup_steps == config.steps // 20
    assert {"learning_rate", "learning_rate_warmup_steps"} <= found.reasons.keys()


def test_rank_and_trigger_word_follow_from_the_kind(folder: Path) -> None:
    style, character = proposed("style", folder)[0], proposed("character", folder)[0]
    assert (style.lora_rank, style.trigger_word) == (32, None)
    assert (character.lora_rank, character.trigger_word) == (16, "ohwx")
    assert proposed("style", folder, trigger_word="my style")[0].trigger_word == (
        "my style"
    )
    # A preset for less memory keeps its own, lower rank.
    assert proposed("style", folder, vram=8)[0].lora_rank == 16


@pytest.mark.parametrize(
    ("family", "vram", "preset"),
    [
        ("sdxl", 8, "sdxl_stiefel_lora_8gb"),
        ("sdxl", 11, "sdxl_stiefel_lora_8gb"),
        ("sdxl", 12, "sdxl_stiefel_lora_12gb"),
        ("SDXL", 80, "sdxl_stiefel_lora_24gb"),
        ("flux", 16, "flux_stiefel_lora_16gb"),
    ],
)
def test_the_preset_is_the_largest_that_fits(
    family: str, vram: int, preset: str, folder: Path
) -> None:
    assert proposed("style", folder, family=family, vram=vram)[1].data["extends"] == (
        preset
    )


def test_what_does_not_fit_is_refused(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"GPU memory \(vram\): must be at least 12 GB for flux"
    ):
        proposed("style", folder, family="flux", vram=8)
    with pytest.raises(ConfigError, match="family: must be one of flux, sd15, sdxl"):
        proposed("style", folder, family="sd3")


def test_the_command_needs_no_terminal(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "my.json"
    given = ("--kind", "Style", "--images", str(folder), "--vram", "12")
    done = run(*given, "--family", "sdxl", "--output", str(output))
    assert done.exit_code == 0, done.output
    assert "steps = 380: 25 images x 60 times / 4 per step" in done.stdout
    assert f'Wrote {output}. Check it with: stiefel-lora validate "{output}"' in (
        done.stdout
    )
    config = load_config(output)
    assert config.concepts[0].path == folder
    assert config.run_name == "my"
    before = output.read_text()
    again = run(*given, "--output", str(output))
    assert (again.exit_code, output.read_text()) == (2, before)
    assert "exists. Choose another file with --output." in again.stderr


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("quo\"te's", "quo_te's.json"),
        ("new\nline", "new_line.json"),
        ("x" * 200, "x" * 80 + ".json"),
        ("con", "_con.json"),
        ("-dash", "-dash.json"),
        ("a$(touch pwned)", "a$(touch pwned).json"),
    ],
)
def test_folders_of_any_name_give_a_file_that_can_be_trained(
    name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / name, count=2)
    monkeypatch.chdir(tmp_path)
    done = run("--kind", "style", "--images", str(tmp_path / name), "--vram", "12")
    assert done.exit_code == 0, done.output
    check_complete(load_config(tmp_path / file))
    command = done.stdout.splitlines()[-1].partition("Train with: ")[2]
    # As a shell reads it.
    assert shlex.split(command)[:2] == ["stiefel-lora", "train"]
    (path,) = shlex.split(command)[2:]
    assert not path.startswith("-")
    assert Path(path).samefile(tmp_path / file)
    assert "$(" not in command or "'" in command


def test_a_name_given_with_output_may_be_no_name_of_a_run(
    folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / 'my "cat".json'
    given = ("--kind", "style", "--images", str(folder), "--vram", "12")
    assert run(*given, "--output", str(output)).exit_code == 0
    assert load_config(output).run_name == "my cat"


@pytest.mark.parametrize("given", ["~nosuchuser/x", "bad\udcff"])
def test_folders_that_cannot_be_opened_are_one_message(given: str) -> None:
    done = run("--kind", "style", "--vram", "12", "--images", given)
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert "images: " in done.stderr


def test_a_full_disk_leaves_no_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    output = tmp_path / "my.json"

    def opened(path: Path, mode: str = "r", **more: Any) -> Any:
        if mode == "x":
            path.touch()
            return Full()
        return open(path, mode, **more)

    monkeypatch.setattr(Path, "open", opened)
    given = ("--kind", "style", "--images", str(folder), "--vram", "12")
    done = run(*given, "--output", str(output))
    assert done.exit_code != 0
    assert "cannot be written: No space left on device" in done.stderr
    assert not output.exists()


@pytest.mark.parametrize("missing", ["--kind", "--images", "--vram"])
def test_a_missing_answer_without_a_terminal_is_an_error(
    missing: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_diagnosis, "_nvidia", lambda: "")
    given = {"--kind": "style", "--images": str(folder), "--vram": "12"}
    del given[missing]
    output = tmp_path / "my.json"
    done = run(
        *(part for pair in given.items() for part in pair), "--output", str(output)
    )
    assert done.exit_code == 2
    assert done.stderr == (
        f"{missing} is not given, and there is no terminal to ask. Add {missing}.\n"
    )
    assert not output.exists()


def test_questions_on_a_terminal(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter(["character", str(folder)])
    questions: list[str] = []
    # The package has a function of the same name.
    module = importlib.import_module("stiefel_lora._commands.new")
    monkeypatch.setattr(
        module,
        "_ask",
        lambda option, question: questions.append(option) or next(asked),
    )
    monkeypatch.setattr(
        _diagnosis, "_nvidia", lambda: "NVIDIA GeForce RTX 4090, driver 1, 24564 MiB"
    )
    monkeypatch.chdir(tmp_path)
    done = run()
    assert done.exit_code == 0, done.output
    assert questions == ["--kind", "--images"]
    assert "GPU memory: 24 GB." in done.stdout
    found = json.loads((tmp_path / "my cat.json").read_text())
    assert found["extends"] == "sdxl_stiefel_lora_24gb"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--kind", "face", "--kind must be one of style, character, concept"),
        ("--images", "nowhere", "does not exist"),
        ("--trigger", "a [trigger]", "must not contain [trigger]"),
    ],
)
def test_wrong_answers_write_nothing(
    option: str, value: str, message: str, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "my.json"
    given = {"--kind": "style", "--images": str(folder), "--vram": "12"}
    given |= {"--output": str(output), option: value}
    done = run(*(part for pair in given.items() for part in pair))
    assert done.exit_code == 2
    assert message in done.stderr
    assert not output.exists()

"""``validate`` on a real base model: what it finds, what it refuses, what it prints."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from helpers.runs import make_images, tiny_config
from stiefel_lora import ConfigError, DataError, OutputError
from stiefel_lora._commands import app
from stiefel_lora.families.sdxl import Sdxl
from stiefel_lora.training.preflight import estimate_run


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("validate read weights or pictures")

    monkeypatch.setattr(Sdxl, "encode_caption", refuse)
    monkeypatch.setattr(Sdxl, "encode_image", refuse)
    monkeypatch.setattr(Sdxl, "denoiser", property(refuse))


def test_what_is_found(
    tiny_sdxl: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(tiny_sdxl, tmp_path)
    (tmp_path / "train" / "00.txt").unlink()
    (tmp_path / "train" / "more.jxl").touch()
    found = estimate_run(config)
    assert (found.images, found.held_out, found.without_caption) == (4, 2, 1)
    assert [".jxl (1)" in remark for remark in found.remarks] == [True]
    # The command prints these, once.
    assert capsys.readouterr().err == ""
    assert found.layers == 12
    assert found.memory.total > found.memory.parts[0].bytes > 0
    assert 0 < found.disk.total < found.free


def test_images_that_training_would_leave_out(tiny_sdxl: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_sdxl, tmp_path)
    (tmp_path / "train" / "01.png").write_bytes(b"no picture")
    found = estimate_run(config)
    assert found.images == 4
    (reason,) = found.left_out
    assert reason.startswith(str(tmp_path / "train" / "01.png"))
    large = tiny_config(tiny_sdxl, tmp_path, resolution=512)
    with pytest.raises(DataError) as error:
        estimate_run(large)
    assert str(error.value) == (
        "None of the 4 images can be read. The first error is: "
        f"{tmp_path}/train/00.png (its size of 32 x 32 pixels is smaller than the "
        "bucket step of 64. Set allow_upscaling to enlarge it)."
    )
    estimate_run(large.model_copy(update={"allow_upscaling": True}))


def test_a_hub_model_that_is_not_here(tmp_path: Path) -> None:
    found = estimate_run(tiny_config(Path("nobody/nothing"), tmp_path))
    assert found.images == 4
    assert found.layers is None


def test_a_package_that_is_missing(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "bitsandbytes" else find(name, *more),
    )
    for model in (tiny_sdxl, Path("nobody/nothing")):
        with pytest.raises(ConfigError, match="requires the package bitsandbytes"):
            estimate_run(tiny_config(model, tmp_path, weight_dtype="nfloat4"))


def test_no_room_on_the_disk(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil._ntuple_diskusage(10**9, 10**9, 0)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(OutputError, match=r"The run requires about .* GB are free at"):
        estimate_run(tiny_config(tiny_sdxl, tmp_path))


def command(config: Path, *more: str) -> Any:
    return CliRunner().invoke(app, ["validate", str(config), *more])


def test_the_command(tiny_sdxl: Path, tmp_path: Path) -> None:
    make_images(tmp_path / "train")
    path = tmp_path / "mine.json"
    settings = {
        "base_model_name": str(tiny_sdxl),
        "concepts": [{"path": "train"}],
        "lora_rank": 4,
        "resolution": 32,
        "output_dir": "runs",
    }
    path.write_text(json.dumps(settings), encoding="utf-8")
    done = command(path)
    assert done.exit_code == 0, done.output
    assert "Images: 4, validation 0." in done.stdout
    assert "estimate, not yet measured on a GPU" in done.stdout
    assert "optimizer state (stiefel_lora)" in done.stdout
    assert not (tmp_path / "runs").exists()
    shared = command(path, "--processes", "2", "--set", "batch_size=4")
    assert "GPU memory of each of 2 processes (estimate" in shared.stdout
    three = command(path, "--processes", "3", "--set", "batch_size=4")
    assert three.exit_code == 2
    assert three.stderr.startswith("batch_size=4: the images of a batch cannot be")
    refused = command(path, "--set", 'layer_filter=["attn9"]')
    assert refused.exit_code == 2
    assert "layer_filter: 'attn9' matches no layer" in refused.stderr
    assert refused.stdout == ""


def calls_of(names: Iterable[str]) -> tuple[Counter[str], Callable[..., None]]:
    """Count calls by the name of the function, wherever it was imported from."""
    found: Counter[str] = Counter()
    wanted = set(names)

    def count(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_name in wanted:
            assert "stiefel_lora" in code.co_filename
            found[code.co_name] += 1

    return found, count


CHECKS = (
    "check_paths",
    "check_hardware",
    "check_quantization",
    "scan_all",
    "check_model",
    "find_model",
    "make_accelerator",
    "check_attention",
    "check_compiler",
    "open_family",
    "check_optimizer",
    "check_room",
    "text_targets",
)


@pytest.mark.parametrize("verb", ["validate", "train"])
def test_each_check_runs_once(
    verb: str, tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stiefel_lora.training.backend._has_cpp", lambda: True)
    make_images(tmp_path / "train")
    settings = {
        "base_model_name": str(tiny_sdxl),
        "concepts": [{"path": "train"}],
        "lora_rank": 4,
        "lora_init": "loi",
        "resolution": 32,
        "compile": True,
        "output_dir": "runs",
    }
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    found, count = calls_of(CHECKS)
    sys.setprofile(count)
    try:
        done = CliRunner().invoke(app, [verb, str(path)])
    finally:
        sys.setprofile(None)
    # A training ends where it would read the first image.
    assert (done.exit_code, str(done.exception)) == {
        "validate": (0, "None"),
        "train": (1, "validate read weights or pictures"),
    }[verb]
    assert found == dict.fromkeys(CHECKS, 1)


@pytest.mark.parametrize("model", ["here", "on the Hugging Face Hub"])
def test_without_images_the_rest_is_checked(
    model: str, tiny_sdxl: Path, tmp_path: Path
) -> None:
    name = tiny_sdxl if model == "here" else Path("nobody/nothing")
    found = estimate_run(tiny_config(name, tmp_path, concepts=[]))
    assert found.images == 0
    assert found.layers == (12 if model == "here" else None)


def test_a_compiler_is_needed_for_a_model_that_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stiefel_lora.training.backend._has_cpp", lambda: False)
    with pytest.raises(ConfigError, match="compile=true requires a C"):
        estimate_run(tiny_config(Path("nobody/nothing"), tmp_path, compile=True))


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        ({}, "", "so masked_training has no effect"),
        ({"alpha_mask": True}, "", "so masked_training has no effect"),
        (
            {"masked_prior_preservation_weight": 1.0},
            "",
            "so masked_training and masked_prior_preservation_weight have no effect",
        ),
        ({}, "mask", None),
        ({}, "alpha", "so masked_training has no effect"),
        ({"alpha_mask": True}, "alpha", None),
    ],
)
def test_masks_that_do_not_exist_are_stated(
    settings: dict[str, Any],
    change: str,
    message: str | None,
    tiny_sdxl: Path,
    tmp_path: Path,
) -> None:
    config = tiny_config(tiny_sdxl, tmp_path, masked_training=True, **settings)
    first = min(Path(config.concepts[0].path).glob("*.png"))
    with Image.open(first) as image:
        if change == "mask":
            image.convert("L").save(first.with_name(f"{first.stem}-masklabel.png"))
        elif change == "alpha":
            image.convert("RGBA").save(first)
    remarks = [x for x in estimate_run(config).remarks if "No image has a mask" in x]
    assert len(remarks) == (message is not None)
    assert message is None or message in remarks[0]

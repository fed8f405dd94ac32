from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from helpers.runs import make_images
from stiefel_lora._commands import app
from stiefel_lora.data.decode_check import DecodeCheck
from stiefel_lora.data.sizes import upright_size


def noise(path: Path, **options: object) -> Path:
    image = Image.effect_noise((64, 48), 90).convert("RGB")
    image.save(path, **options)
    return path


@pytest.fixture
def sizes(tmp_path: Path) -> dict[Path, tuple[int, int]]:
    """Sound images and truncated ones, whose headers are sound."""
    found = []
    for kind in ("jpg", "png", "webp", "bmp"):
        found.append(noise(tmp_path / f"good.{kind}"))
        cut = noise(tmp_path / f"cut.{kind}")
        cut.write_bytes(cut.read_bytes()[:-700])
        found.append(cut)
    exif = Image.Exif()
    exif[0x0112] = 6
    found.append(noise(tmp_path / "turned.jpg", exif=exif))
    return {path: upright_size(path) for path in found}


def test_truncated_images_of_each_format_are_found(sizes):
    check, ticks = DecodeCheck(), []
    assert check.unknown(sizes) == 9
    broken = check.check(sizes, lambda: ticks.append(1))
    assert sorted(path.name for path in broken) == [
        "cut.bmp",
        "cut.jpg",
        "cut.png",
        "cut.webp",
    ]
    assert all(broken.values())
    assert len(ticks) == 9
    assert check.unknown(sizes) == 0
    assert check.known(sizes) == broken


def test_results_are_kept_until_a_file_changes(sizes):
    check, ticks = DecodeCheck(), []
    check.check(sizes)
    cut = next(path for path in sizes if path.name == "cut.jpg")
    noise(cut)
    os.utime(cut, (1, 1))
    assert check.unknown(sizes) == 1
    assert cut not in check.check(sizes, lambda: ticks.append(1))
    assert len(ticks) == 1


def test_a_stopped_check_leaves_images_out(sizes):
    check = DecodeCheck()
    check.check(sizes, stopped=lambda: True)
    assert check.unknown(sizes) > 0


def test_a_file_that_vanishes_is_reported(sizes):
    path = next(iter(sizes))
    path.unlink()
    assert path in DecodeCheck().check(sizes)


@pytest.mark.parametrize("decode", [True, False])
def test_validate_names_truncated_images(tmp_path, decode):
    folder = make_images(tmp_path / "images", count=2)
    cut = noise(folder / "cut.jpg")
    cut.write_bytes(cut.read_bytes()[:-700])
    config = tmp_path / "my.json"
    config.write_text("{}")
    sets = [f"--set=concepts={folder}", "--set=resolution=32", "--set=bucket_step=8"]
    option = [] if decode else ["--no-decode"]
    done = CliRunner().invoke(app, ["validate", str(config), *sets, *option])
    assert done.exit_code == 0, done.output
    assert (f"skipped. It is {cut}" in done.output) is decode

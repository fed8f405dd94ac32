"""Images of very many pixels: one rule and one message, wherever they are met."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from helpers.runs import make_images, tiny_config
from stiefel_lora._commands import app
from stiefel_lora.config import dump_full
from stiefel_lora.data import Buckets, square_frame
from stiefel_lora.data.augmentation import Augmentation
from stiefel_lora.data.decoding import read_image
from stiefel_lora.data.masks import read_mask
from stiefel_lora.data.unreadable import UnreadableImage
from stiefel_lora.training.trainer import train

RULE = (
    "its size of 20000 x 10000 = 200.0 million pixels is larger than "
    "max_image_megapixels=179. Resize the image, or increase max_image_megapixels"
)


def head_of_a_png(path: Path, width: int, height: int) -> None:
    """A file that claims a size; its pixels are cut off after a few."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(100)))
    )


def test_scan_validate_and_training_agree(
    tiny_sdxl: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_images(tmp_path / "large", count=2)
    head_of_a_png(folder / "big.png", 20_000, 10_000)
    config = tiny_config(tiny_sdxl, tmp_path, concepts=[{"path": str(folder)}], steps=1)
    file = tmp_path / "my.json"
    file.write_text(dump_full(config), encoding="utf-8")
    result = train(config)
    assert result.unreadable == (f"{folder / 'big.png'} ({RULE})",)
    assert RULE in capsys.readouterr().err
    for verb in ("scan", "validate"):
        done = CliRunner().invoke(app, [verb, str(file)])
        assert done.exit_code == 0, done.output
        assert f"big.png ({RULE})" in done.output


def test_the_limit_is_an_option() -> None:
    size = Buckets(64, max_megapixels=200).size_for((20_000, 10_000))
    assert size == (64, 64)
    with pytest.raises(UnreadableImage, match="larger than max_image_megapixels=1"):
        Buckets(64, max_megapixels=1).size_for((1001, 1000))
    assert Buckets(64, max_megapixels=1).size_for((1000, 1000)) == (64, 64)


def test_pillows_own_limit_decides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    Image.new("L", (64, 64), 255).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    look = Augmentation(square_frame((64, 64), 8))
    assert read_image(tmp_path / "a.png", look).min() == 1
    assert torch.equal(
        read_mask(tmp_path / "a.png", look, (1, 1), alpha=False), torch.ones(1, 1, 1)
    )
    assert Image.MAX_IMAGE_PIXELS == 100
    assert not recwarn.list


def test_a_head_that_lies_costs_no_memory(tmp_path: Path) -> None:
    head_of_a_png(tmp_path / "a.png", 60_000, 60_000)
    look = Augmentation(square_frame((64, 64), 8))
    with pytest.raises(UnreadableImage, match="but its header specifies 64 x 64"):
        read_image(tmp_path / "a.png", look)
    with pytest.raises(UnreadableImage, match=r"its mask a\.png: its size of 60000 x"):
        read_mask(tmp_path / "a.png", look, (1, 1), alpha=False)

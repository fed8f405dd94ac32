from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageOps

from stiefel_lora.data.sizes import upright_size
from stiefel_lora.data.unreadable import UnreadableImage

SUFFIXES = ["jpg", "png", "webp", "bmp", "avif"]


@pytest.mark.parametrize("orientation", [None, 1, 3, 5, 6, 8])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_sizes_are_those_of_the_upright_pixels(
    tmp_path: Path, suffix: str, orientation: int | None
) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    if orientation is not None and suffix != "bmp":
        exif[0x0112] = orientation
        Image.new("RGB", (48, 32)).save(path, exif=exif)
    else:
        Image.new("RGB", (48, 32)).save(path)
    with Image.open(path) as image:
        assert upright_size(path) == ImageOps.exif_transpose(image).size


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "I;16"])
def test_every_kind_of_png(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (5, 7)).save(tmp_path / "a.png")
    assert upright_size(tmp_path / "a.png") == (5, 7)


def test_nothing_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (640, 480)).save(path)
    path.write_bytes(path.read_bytes()[:64])
    assert upright_size(path) == (640, 480)


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_image_is_refused(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage) as error:
        upright_size(path)
    assert str(tmp_path) not in str(error.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage):
        upright_size(tmp_path / "gone.png")

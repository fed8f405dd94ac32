from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stiefel_lora.data import cover_frame, square_frame
from stiefel_lora.data.augmentation import Augmentation
from stiefel_lora.data.decoding import read_image
from stiefel_lora.data.image_file import open_image
from stiefel_lora.data.sizes import upright_size
from stiefel_lora.data.unreadable import UnreadableImage


def read(path: Path) -> torch.Tensor:
    return read_image(path, Augmentation(square_frame(upright_size(path), 16)))


def colors(pixels: torch.Tensor) -> set[tuple[float, ...]]:
    return {tuple(color.tolist()) for color in pixels.flatten(1).T}


def test_pixels_are_rgb_from_minus_one_to_one(tmp_path: Path) -> None:
    Image.new("RGB", (32, 16), (255, 0, 0)).save(tmp_path / "a.png")
    pixels = read(tmp_path / "a.png")
    assert pixels.shape == (3, 16, 16)
    assert pixels.dtype == torch.float32
    assert colors(pixels) == {(1.0, -1.0, -1.0)}


def test_middle_is_cut_out(tmp_path: Path) -> None:
    image = np.zeros((16, 48, 3), dtype=np.uint8)
    image[:, 16:32] = 255
    Image.fromarray(image).save(tmp_path / "a.bmp")
    pixels = read(tmp_path / "a.bmp")
    assert colors(pixels) == {(1.0, 1.0, 1.0)}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_becomes_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    if mode == "P":
        image = Image.new("P", (16, 16), 0)
        image.putpalette([0, 0, 0])
        image.save(tmp_path / "a.png", transparency=0)
    else:
        image.convert(mode).save(tmp_path / "a.png")
    pixels = read(tmp_path / "a.png")
    assert colors(pixels) == {(1.0, 1.0, 1.0)}


def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path: Path) -> None:
    gray = np.full((16, 16), 65535 // 2, dtype=np.uint16)
    Image.fromarray(gray).save(tmp_path / "a.png")
    pixels = read(tmp_path / "a.png")
    assert abs(float(pixels.mean())) < 0.01


def test_exif_orientation_is_followed(tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read(tmp_path / "a.jpg").shape == (3, 16, 16)


def test_pixels_that_disagree_with_the_head_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (32, 16)).save(tmp_path / "a.png")
    with pytest.raises(
        UnreadableImage, match="32 x 16 pixels, but its header specifies 16"
    ):
        read_image(tmp_path / "a.png", Augmentation(square_frame((16, 32), 16)))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".avif"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = io.BytesIO()
    kind = {"jpg": "jpeg"}.get(suffix[1:], suffix[1:])
    Image.fromarray(noise).save(whole, format=kind)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    with pytest.raises(UnreadableImage):
        read(path)


def test_text_in_place_of_an_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not a picture")
    with pytest.raises(UnreadableImage, match="cannot identify"):
        read(tmp_path / "a.png")


def test_a_format_that_pillow_does_not_decode_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    # A DDS of 64 x 64 whose pixels have no known format.
    sizes = struct.pack("<IIII", 124, 0x1007, 64, 64)
    path.write_bytes(
        b"DDS " + sizes + bytes(56) + struct.pack("<II", 32, 0) + bytes(64)
    )
    with (
        pytest.raises(UnreadableImage, match="Unknown pixel format"),
        open_image(path),
    ):
        pass


def test_mirrored_before_it_is_cut(tmp_path: Path) -> None:
    image = np.zeros((16, 48, 3), dtype=np.uint8)
    image[:, :16] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    frame = cover_frame((48, 16), (16, 16), (1.0, 0.0))
    assert colors(read_image(tmp_path / "a.png", Augmentation(frame))) == {(-1, -1, -1)}
    look = Augmentation(frame, mirrored=True)
    assert colors(read_image(tmp_path / "a.png", look)) == {(1, 1, 1)}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"brightness": 0.5}, (100, 0, 0)),
        ({"saturation": 0.0}, (60, 60, 60)),
        ({"hue": 2 / 3}, (0, 200, 0)),
        ({"hue": -2 / 3}, (0, 0, 200)),
    ],
)
def test_colors_change(
    tmp_path: Path, change: dict[str, float], expected: tuple[int, int, int]
) -> None:
    Image.new("RGB", (16, 16), (200, 0, 0)).save(tmp_path / "a.png")
    look = Augmentation(square_frame((16, 16), 16), **change)
    pixels = read_image(tmp_path / "a.png", look)
    found = (pixels[:, 0, 0] + 1) * 127.5
    # One of the 256 steps of the color circle is 6 * 200 / 256 = 4.7 of 200.
    assert torch.allclose(found, torch.tensor(expected).float(), atol=5.1)

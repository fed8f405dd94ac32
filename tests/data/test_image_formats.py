"""TIFF, GIF, AVIF, HEIC and JFIF files, and those with several frames."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stiefel_lora.config import Concept, parse_config
from stiefel_lora.data import image_formats
from stiefel_lora.data.augmentation import Augmentation
from stiefel_lora.data.decoding import read_image
from stiefel_lora.data.folder import scan_concepts
from stiefel_lora.data.folder_report import report_on
from stiefel_lora.data.frames import has_frames
from stiefel_lora.data.framing import cover_frame
from stiefel_lora.data.image_crop import crop_image, whole_image
from stiefel_lora.data.sizes import upright_size
from stiefel_lora.data.unreadable import UnreadableImage

RED, BLUE = (230, 40, 30), (20, 60, 200)


def two_colors(size: tuple[int, int] = (48, 32)) -> Image.Image:
    """The left half is red, the right one blue."""
    image = Image.new("RGB", size, BLUE)
    image.paste(RED, (0, 0, size[0] // 2, size[1]))
    return image


def colors(path: Path) -> tuple[Any, Any]:
    """Colors of the training image on the left and on the right."""
    size = upright_size(path)
    cut = crop_image(path, Augmentation(cover_frame(size, size)))
    assert cut.mode == "RGB"
    assert cut.size == size
    middle = size[1] // 2
    return cut.getpixel((3, middle)), cut.getpixel((size[0] - 4, middle))


def close(found: Any, expected: Any, most: int = 6) -> bool:
    return all(abs(a - b) <= most for a, b in zip(found, expected, strict=True))


def rgb16_tiff(path: Path, array: np.ndarray) -> None:
    """Write 16-bit RGB without compression: Pillow has no mode for it."""
    height, width, _ = array.shape
    data = array.astype("<u2").tobytes()
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, 8 + 2 + 9 * 12 + 4),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8 + 2 + 9 * 12 + 4 + 6),
        (277, 3, 1, 3),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
    ]
    head = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(tags))
    head += b"".join(struct.pack("<HHII", *tag) for tag in tags)
    path.write_bytes(
        head + struct.pack("<I", 0) + struct.pack("<3H", 16, 16, 16) + data
    )


# A format, its extension, and how the image is written.
WRITTEN: dict[str, tuple[str, Any]] = {
    "tiff": ("a.tiff", lambda path: two_colors().save(path)),
    "tif lzw": ("a.tif", lambda path: two_colors().save(path, compression="tiff_lzw")),
    "tiff cmyk": ("a.TIFF", lambda path: two_colors().convert("CMYK").save(path)),
    "tiff palette": ("a.tif", lambda path: two_colors().quantize(8).save(path)),
    "tiff 16 bits": (
        "a.tif",
        lambda path: rgb16_tiff(path, np.asarray(two_colors()).astype(np.uint16) * 257),
    ),
    "jpeg cmyk": (
        "a.jpg",
        lambda path: two_colors().convert("CMYK").save(path, quality=95),
    ),
    "jfif": ("a.jfif", lambda path: two_colors().save(path, "JPEG", quality=95)),
    "jpe": ("a.JPE", lambda path: two_colors().save(path, "JPEG", quality=95)),
    "gif": ("a.gif", lambda path: two_colors().save(path)),
    "png palette": ("a.png", lambda path: two_colors().quantize(8).save(path)),
    "avif": ("a.avif", lambda path: two_colors().save(path, quality=95)),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_formats_are_found_and_show_the_same_colors(tmp_path: Path, kind: str) -> None:
    name, write = WRITTEN[kind]
    path = tmp_path / name
    write(path)
    (image,) = scan_concepts([Concept(path=tmp_path)]).images
    assert image.path == path
    assert upright_size(path) == (48, 32)
    left, right = colors(path)
    assert close(left, RED)
    assert close(right, BLUE)
    pixels = read_image(path, Augmentation(cover_frame((48, 32), (48, 32))))
    assert pixels.shape == (3, 32, 48)


@pytest.mark.parametrize("top", [65535, 32896, 257])
def test_gray_tiffs_of_16_bits_are_scaled(tmp_path: Path, top: int) -> None:
    array = np.zeros((32, 48), dtype=np.uint16)
    array[:, :24] = top
    path = tmp_path / "a.tif"
    Image.fromarray(array).save(path)
    left, right = colors(path)
    assert left == (top // 257,) * 3
    assert right == (0, 0, 0)


def test_values_of_unknown_range_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for array in (
        np.linspace(0, 1, 32 * 48, dtype=np.float32).reshape(32, 48),
        np.full((32, 48), 1 << 20, dtype=np.int32),
    ):
        Image.fromarray(array).save(path)
        with pytest.raises(UnreadableImage, match="32-bit values, whose range"):
            colors(path)
    # Those of a 16-bit range are fine.
    Image.fromarray(np.full((32, 48), 257 * 100, dtype=np.int32)).save(path)
    assert colors(path)[0] == (100, 100, 100)


@pytest.mark.parametrize("name", ["a.tif", "a.avif", "a.webp", "a.png", "a.jpg"])
def test_rotated_images_are_upright(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    exif = Image.Exif()
    exif[0x0112] = 6
    image = two_colors((32, 48)).transpose(Image.Transpose.ROTATE_90)
    image.save(path, exif=exif, quality=95)
    size = upright_size(path)
    assert size == (32, 48)
    cut = crop_image(path, Augmentation(cover_frame(size, size)))
    assert close(cut.getpixel((3, 24)), RED)
    assert close(cut.getpixel((28, 24)), BLUE)


FRAMES = {
    "a.gif": {},
    "a.webp": {"lossless": True},
    "a.png": {},
    "a.apng": {"format": "PNG"},
    "a.tif": {},
    "a.avif": {"quality": 95},
}


@pytest.mark.parametrize("name", FRAMES)
def test_the_first_frame_is_used_and_stated(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    other = Image.new("RGB", (48, 32), "white")
    options: dict[str, Any] = FRAMES[name]
    two_colors().save(path, save_all=True, append_images=[other], **options)
    single = tmp_path / f"single{path.suffix}"
    two_colors((40, 32)).save(single, **options)
    assert has_frames(path)
    assert not has_frames(single)
    left, right = colors(path)
    assert close(left, RED)
    assert close(right, BLUE)
    config = parse_config({"concepts": [str(tmp_path)], "resolution": 32})
    (line,) = [text for text in report_on(config).messages() if "frames" in text]
    assert line == (
        "1 image has several frames or pages, of which the first one is used: "
        f"{path.name}."
    )


def test_damaged_files_have_no_frames(tmp_path: Path) -> None:
    for suffix in (".gif", ".webp", ".png", ".tif", ".avif", ".apng", ".jpg"):
        path = tmp_path / f"a{suffix}"
        for content in (
            b"",
            b"\x00" * 40,
            b"RIFF",
            b"GIF89a",
            b"II*\x00",
            b"\x89PNG\r",
        ):
            path.write_bytes(content)
            assert not has_frames(path)
    assert not has_frames(tmp_path / "missing.gif")


def test_heic_files_are_counted_without_their_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_formats, "_has_heif", lambda: False)
    two_colors().save(tmp_path / "a.png")
    (tmp_path / "b.HEIC").touch()
    scan = scan_concepts([Concept(path=tmp_path)])
    assert len(scan.images) == 1
    (remark,) = scan.remarks
    assert "formats are skipped: .heic (1). Convert them to one of .apng" in remark
    assert ". For .heic and .heif files, install pillow-heif: " in remark
    assert remark.endswith(".")


@pytest.mark.parametrize("name", ["a.heic", "a.HIF", "a.jpg"])
def test_heic_files_are_read(tmp_path: Path, name: str) -> None:
    """Also with the extension that some phones give them."""
    heif = pytest.importorskip("pillow_heif", reason="pillow_heif is not installed")
    path = tmp_path / name
    heif.from_pillow(two_colors()).save(path, quality=95)
    (image,) = scan_concepts([Concept(path=tmp_path)]).images
    assert image.path == path
    assert upright_size(path) == (48, 32)
    left, right = colors(path)
    assert close(left, RED, 12)
    assert close(right, BLUE, 12)


def test_formats_that_start_programs_are_refused(tmp_path):
    path = tmp_path / "script.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n")
    for read in (whole_image, upright_size):
        with pytest.raises(UnreadableImage, match="the format EPS is not supported"):
            read(path)

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from helpers.icc import SRGB, cmyk_profile, gray_profile, rgb_profile
from stiefel_lora.config import parse_config
from stiefel_lora.data import square_frame
from stiefel_lora.data.augmentation import Augmentation
from stiefel_lora.data.color_profiles import (
    Conversion,
    conversion_of_file,
    profile_remarks,
)
from stiefel_lora.data.decoding import read_image
from stiefel_lora.data.encoder import Encoder
from stiefel_lora.data.folder import CaptionedImage
from stiefel_lora.data.folder_report import report_on
from stiefel_lora.data.tensor_store import TensorStore

SIDE = 16
LOOK = Augmentation(square_frame((SIDE, SIDE), SIDE))


def learned(path: Path) -> list[int]:
    """RGB of the middle, 0 to 255, as training sees it."""
    pixels = read_image(path, LOOK)
    return ((pixels[:, 8, 8] + 1) * 127.5).round().int().tolist()


def save(path: Path, mode: str, color: Any, profile: bytes | None, **more: Any) -> Path:
    Image.new(mode, (SIDE, SIDE), color).save(path, icc_profile=profile, **more)
    return path


@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "a.webp", "a.avif"], ids=lambda name: name[2:]
)
def test_display_p3_becomes_srgb(tmp_path: Path, name: str) -> None:
    best = {"lossless": True} if name == "a.webp" else {"quality": 100}
    path = save(tmp_path / name, "RGB", (200, 90, 60), rgb_profile(), **best)
    assert learned(path) == pytest.approx([217, 81, 47], abs=2)


def test_what_is_transparent_stays_so(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", "RGBA", (200, 90, 60, 0), rgb_profile())
    assert learned(path) == [255, 255, 255]
    path = save(tmp_path / "b.png", "RGBA", (200, 90, 60, 255), rgb_profile())
    assert learned(path) == pytest.approx([217, 81, 47], abs=2)


def test_a_palette_is_converted(tmp_path: Path) -> None:
    image = Image.new("RGB", (SIDE, SIDE), (200, 90, 60)).convert(
        "P", palette=Image.Palette.ADAPTIVE, colors=2
    )
    image.save(tmp_path / "a.png", icc_profile=rgb_profile())
    assert learned(tmp_path / "a.png") == pytest.approx([217, 81, 47], abs=2)


def test_gray_with_a_profile_of_its_own(tmp_path: Path) -> None:
    # Linear light: half of it is 188 in sRGB.
    path = save(tmp_path / "a.png", "L", 128, gray_profile())
    assert learned(path) == pytest.approx([188] * 3, abs=1)
    path = save(tmp_path / "b.png", "LA", (128, 255), gray_profile())
    assert learned(path) == pytest.approx([188] * 3, abs=1)


def test_gray_of_sixteen_bit_keeps_its_shadows(tmp_path: Path) -> None:
    gray = np.full((SIDE, SIDE), 65535 // 2, dtype=np.uint16)
    Image.fromarray(gray).save(tmp_path / "a.png", icc_profile=gray_profile())
    assert learned(tmp_path / "a.png") == pytest.approx([188] * 3, abs=1)
    # Between the first two of 256 levels, where one is 13 of sRGB.
    dark = np.full((SIDE, SIDE), 128, dtype=np.uint16)
    Image.fromarray(dark).save(tmp_path / "b.png", icc_profile=gray_profile())
    assert 4 <= learned(tmp_path / "b.png")[0] <= 9


def test_gray_with_an_rgb_profile_is_equal_red_green_and_blue(tmp_path: Path) -> None:
    linear = rgb_profile(SRGB, (1.0,))
    path = save(tmp_path / "a.png", "L", 128, linear)
    assert learned(path) == pytest.approx([188] * 3, abs=1)


def test_cmyk_is_converted_by_its_profile(tmp_path: Path) -> None:
    # This printer's cyan is a red of L*a*b* (53, 80, 67), about sRGB's own red.
    profile = cmyk_profile({(0, 0, 0, 0): (100, 0, 0), (1, 0, 0, 0): (53, 80, 67)})
    path = save(tmp_path / "a.jpg", "CMYK", (255, 0, 0, 0), profile, quality=100)
    red, green, blue = learned(path)
    assert red > 240
    assert max(green, blue) < 30
    path = save(tmp_path / "b.jpg", "CMYK", (255, 0, 0, 0), None, quality=100)
    assert learned(path) == pytest.approx([0, 255, 255], abs=2)


def test_srgb_in_any_makers_rounding_keeps_the_bits(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    plain = Image.fromarray(noise)
    plain.save(tmp_path / "plain.png")
    expected = read_image(tmp_path / "plain.png", LOOK)
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number, profile in enumerate((own, rgb_profile(SRGB))):
        path = tmp_path / f"{number}.png"
        plain.save(path, icc_profile=profile)
        assert read_image(path, LOOK).equal(expected)
        assert conversion_of_file(path).key == ""


@pytest.mark.parametrize(
    ("mode", "profile", "reason"),
    [
        ("RGB", b"no profile at all", "cannot open profile"),
        ("RGB", rgb_profile()[:300], "cannot"),
        ("RGB", gray_profile(), "it is a profile for GRAY, but the image is RGB"),
        ("CMYK", rgb_profile(), "it is a profile for RGB, but the image is CMYK"),
    ],
)
def test_a_broken_profile_is_reported_and_the_image_taken_as_it_is(
    tmp_path: Path, mode: str, profile: bytes, reason: str
) -> None:
    best = {"quality": 100, "subsampling": 0}
    with_one = save(tmp_path / "a.jpg", mode, "red", profile, **best)
    without = save(tmp_path / "b.jpg", mode, "red", None, **best)
    assert learned(with_one) == learned(without)
    (message,) = profile_remarks([with_one, without])
    assert message.startswith(
        "1 image has an invalid color profile, which is ignored: a.jpg ("
    )
    assert reason in message


def test_a_profile_with_a_missing_piece_is_broken(tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE)).save(whole, "jpeg", icc_profile=bytes(70_000))
    data = whole.getvalue()
    second = data.index(b"\xff\xe2", data.index(b"ICC_PROFILE\0\x01") + 60_000)
    length = int.from_bytes(data[second + 2 : second + 4], "big")
    (tmp_path / "a.jpg").write_bytes(data[:second] + data[second + 2 + length :])
    assert conversion_of_file(tmp_path / "a.jpg").problem == "it is incomplete"


class _Family:
    image_fingerprint = "model"

    def encode_image(self, pixels: Any, frame: Any) -> dict[str, Any]:
        return {"latents": pixels}


def test_cached_latents_are_keyed_by_the_conversion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.png", "RGB", (200, 90, 60), rgb_profile())
    plain = save(tmp_path / "b.png", "RGB", (200, 90, 60), None)

    def encoded(path: Path) -> Any:
        encoder = Encoder(_Family(), TensorStore(tmp_path / "cache"))  # type: ignore
        entry = CaptionedImage(path, ("",), None)  # type: ignore
        encoder.prepare_image(entry, LOOK)
        return encoder.image(entry, LOOK)["latents"]

    # As before profiles were read.
    with monkeypatch.context() as patch:
        patch.setattr(
            "stiefel_lora.data.color_profiles.conversion_of", lambda image: Conversion()
        )
        before, plain_before = encoded(path), encoded(plain)
    files = len(list((tmp_path / "cache").rglob("*.safetensors")))
    assert not encoded(path).equal(before)
    assert encoded(plain).equal(plain_before)
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == files + 1


def test_scan_names_what_is_converted(tmp_path: Path) -> None:
    save(tmp_path / "a.png", "RGB", (200, 90, 60), rgb_profile())
    save(tmp_path / "b.png", "RGB", (200, 90, 60), b"junk")
    config = parse_config(
        {"concepts": str(tmp_path), "resolution": 32, "bucket_step": 8}
    )
    assert report_on(config).messages()[-2:] == [
        "1 image was converted from its color profile to sRGB: a.png.",
        "1 image has an invalid color profile, which is ignored: b.png (cannot open "
        "profile from string).",
    ]

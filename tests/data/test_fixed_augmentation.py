"""Augmentation that is the same at every use, and the background of transparency."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stiefel_lora import ConfigError
from stiefel_lora.config import Concept, parse_config
from stiefel_lora.data.augmentation import (
    Augmentation,
    augmentation_at,
    augmentation_count,
)
from stiefel_lora.data.encoder import Encoder
from stiefel_lora.data.entry import Entry
from stiefel_lora.data.folder import CaptionedImage
from stiefel_lora.data.framing import cover_frame
from stiefel_lora.data.image_crop import crop_image
from stiefel_lora.data.plan import plan_of
from stiefel_lora.data.tensor_store import TensorStore

STRENGTHS = {
    "random_brightness_max_strength": 0.2,
    "random_contrast_max_strength": 0.3,
    "random_saturation_max_strength": 0.4,
    "random_hue_max_strength": 0.5,
}


def changes_of(**settings: Any) -> list[Augmentation]:
    concept = Concept(path=Path("a"), **settings)
    return [
        augmentation_at("a.png", (64, 64), (32, 32), concept, number)
        for number in range(8)
    ]


def test_fixed_changes_are_the_same_at_every_use() -> None:
    fixed = {f"enable_fixed_{name}": True for name in ("brightness", "hue", "flip")}
    fixed |= {"enable_fixed_contrast": True, "enable_fixed_saturation": True}
    found = changes_of(**STRENGTHS, **fixed)
    assert len(set(found)) == 1
    assert found[0].colors == pytest.approx([1.2, 1.3, 1.4, 0.5])
    assert found[0].mirrored
    concept = Concept(path=Path("a"), **STRENGTHS, **fixed)
    assert augmentation_count(concept) == 1
    assert augmentation_count(Concept(path=Path("a"), enable_fixed_flip=True)) == 1
    assert changes_of(enable_fixed_brightness=True)[0] == changes_of()[0]


def test_the_others_stay_random_with_the_same_draws() -> None:
    before = changes_of(**STRENGTHS, enable_random_flip=True)
    found = changes_of(**STRENGTHS, enable_random_flip=True, enable_fixed_contrast=True)
    assert {look.contrast for look in found} == {1.3}
    for one, other in zip(before, found, strict=True):
        assert [one.brightness, one.saturation, one.hue] == (
            [other.brightness, other.saturation, other.hue]
        )
        assert one.mirrored == other.mirrored
    # A random flip takes precedence, as in OneTrainer.
    both = changes_of(enable_random_flip=True, enable_fixed_flip=True)
    assert {look.mirrored for look in both} == {True, False}


def transparent(path: Path) -> Path:
    """Opaque red on the left; green that cannot be seen on the right."""
    pixels = np.zeros((32, 32, 4), dtype=np.uint8)
    pixels[:, :16] = (255, 0, 0, 255)
    pixels[:, 16:] = (0, 200, 0, 0)
    pixels[:, 24:] = (0, 200, 0, 128)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(
    ("background", "clear", "half"),
    [
        ("#ffffff", (255, 255, 255), (127, 227, 127)),
        ("#000000", (0, 0, 0), (0, 100, 0)),
        ("#204060", (32, 64, 96), (16, 132, 48)),
        ("none", (0, 200, 0), (0, 200, 0)),
    ],
)
def test_transparent_areas_get_the_background(
    tmp_path: Path, background: str, clear: tuple[int, ...], half: tuple[int, ...]
) -> None:
    path = transparent(tmp_path / "a.png")
    config = parse_config({"alpha_background": background.upper(), "resolution": 32})
    image = CaptionedImage(path, ("",), Concept(path=tmp_path))
    entry = Entry(image, (32, 32), (32, 32))
    for training in (True, False):
        plan = plan_of(config, training=training, encodes_text=True)
        cut = crop_image(path, plan.augmentation(entry, 0))
        assert cut.getpixel((2, 2)) == (255, 0, 0)
        assert cut.getpixel((20, 2)) == clear
        found = cut.getpixel((30, 2))
        assert all(abs(a - b) <= 1 for a, b in zip(found, half, strict=True))


def test_a_background_has_its_own_cache(tmp_path: Path) -> None:
    path = transparent(tmp_path / "a.png")
    family: Any = SimpleNamespace(image_fingerprint="a VAE")
    encoder = Encoder(family, TensorStore(tmp_path / "cache"))
    frame = cover_frame((32, 32), (32, 32))
    keys = {
        color: encoder._image_key(path, Augmentation(frame, background=color))
        for color in ("#ffffff", "#000000", "none")
    }
    assert len(set(keys.values())) == 3
    assert keys["#ffffff"] == encoder._image_key(path, Augmentation(frame))


@pytest.mark.parametrize("text", ["white", "#fff", "", "#12345g"])
def test_other_backgrounds_are_errors(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config({"alpha_background": text})
    assert str(error.value) == (
        "alpha_background: must be a color such as #ffffff, or 'none', but got "
        f'"{text}".'
    )

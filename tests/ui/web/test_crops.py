"""Crops of training, computed by the server for its own folders only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stiefel_lora.config.presets import find_config
from stiefel_lora.data.folder import CaptionedImage
from stiefel_lora.data.unreadable import UnreadableImage
from stiefel_lora.ui.controllers.training_preview import trained_image
from stiefel_lora.ui.web.context import WebContext
from stiefel_lora.ui.web.crops import Crop, crop_address, crop_in
from stiefel_lora.ui.web.security import Refusal

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "images" / "wide.png"
    path.parent.mkdir()
    ramp = np.arange(128 * 64 * 3, dtype=np.uint32).reshape(64, 128, 3) % 251
    Image.fromarray(ramp.astype(np.uint8)).save(path)
    return path.resolve()


def context_of(*folders: Path, shown: tuple[Path, ...], **settings: object):
    context = WebContext(shown)
    document = context.document
    document.load(find_config("demo_adamw"))
    concepts = [{"path": str(f), "enable_random_flip": True} for f in folders]
    document.set("concepts", concepts)
    document.set("validation_concepts", [])
    for key, value in settings.items():
        document.set(key, value)
    return context


def ask(context: WebContext, path: Path, query: Mapping[str, str] | None = None):
    return crop_in(context, path, {"kind": "training", "concept": "0"}, query or {})


def test_the_pixels_are_those_of_training(image: Path) -> None:
    context = context_of(image.parent, shown=(image.parent,))
    config = context.findings().config
    (concept,) = config.concepts
    plain = trained_image(CaptionedImage(image, ("",), concept), config, training=True)
    flips = set()
    for number in range(6):
        found = ask(context, image, {"use": str(number)}).decode().convert("RGB")
        assert found.tobytes() == plain.crop(number).tobytes()
        flips.add(plain.augmentation(number).mirrored)
    assert flips == {True, False}


def test_each_resolution_has_its_crop(image: Path) -> None:
    context = context_of(
        image.parent, shown=(image.parent,), resolution=32, extra_resolutions=[64]
    )
    assert ask(context, image).decode().size == (32, 32)
    assert ask(context, image, {"size": "64x64"}).decode().size == (64, 64)
    assert ask(context, image, {"size": "7x9"}).decode().size == (32, 32)


def test_the_address_changes_with_the_settings(image: Path) -> None:
    context = context_of(image.parent, shown=(image.parent,))
    first = crop_address(context, 0, image, 160, training=True)
    assert first == crop_address(context, 0, image, 160, training=True)
    assert first != crop_address(context, 0, image, 160, training=True, number=1)
    context.document.set("resolution", 32)
    assert first != crop_address(context, 0, image, 160, training=True)


def test_folders_that_are_not_shown_are_not_cropped(
    image: Path, tmp_path: Path
) -> None:
    # A browser can name any folder in the settings.
    outside = context_of(image.parent, shown=(tmp_path / "other",))
    assert crop_address(outside, 0, image, 160, training=True) is None
    with pytest.raises(Refusal) as caught:
        ask(outside, image)
    assert caught.value.status == 403
    other = image.with_name("copy.png")
    other.write_bytes(image.read_bytes())
    inside = context_of(tmp_path / "images" / "sub", shown=(tmp_path,))
    with pytest.raises(Refusal, match="Only images of the folders in the settings"):
        ask(inside, other)


def test_an_image_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    # A line of one pixel, scaled to cover a square, would have a thousand megapixels.
    path = tmp_path / "line.png"
    Image.new("RGB", (20_000, 1)).save(path)
    context = context_of(tmp_path, shown=(tmp_path,), resolution=256)
    context.document.set("aspect_ratio_bucketing", False)
    with pytest.raises(UnreadableImage, match="too large to be shown"):
        ask(context, path.resolve()).decode()


def test_formats_that_start_programs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n")
    config = context_of(tmp_path, shown=(tmp_path,)).findings().config
    crop = Crop(path, config, config.concepts[0], True, 0)
    with pytest.raises(UnreadableImage, match="EPS is not supported"):
        crop.decode()

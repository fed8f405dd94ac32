"""Pictures of all shapes with masks and captions that change, for runs of seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.runs import make_images

__all__ = ["SHAPES", "varied_settings"]

SHAPES = [(32, 32), (48, 24), (24, 48), (40, 32), (32, 32)]
_EVERYTHING = {
    "enable_random_flip": True,
    "enable_crop_jitter": True,
    "random_brightness_max_strength": 0.2,
    "random_hue_max_strength": 0.2,
    "enable_tag_shuffling": True,
    "keep_tags_count": 1,
    "tag_dropout_probability": 0.3,
    "caption_dropout_rate": 0.3,
    "image_variations": 2,
    "text_variations": 2,
}


def _images_of_all_shapes(folder: Path) -> Path:
    folder.mkdir(parents=True)
    chance = np.random.default_rng(7)
    for number, (width, height) in enumerate(SHAPES):
        pixels = chance.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("thing, red, small, old")
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[:, :8] = 255
    Image.fromarray(mask).save(folder / "0-masklabel.png")
    return folder


def varied_settings(root: Path) -> dict[str, Any]:
    """Two concepts, one of them regularisation: ten visits of pictures are a pass."""
    if not (root / "shapes").exists():
        _images_of_all_shapes(root / "shapes")
        make_images(root / "reg", count=3, seed=5)
    return {
        "concepts": [
            {"path": str(root / "shapes"), **_EVERYTHING},
            {"path": str(root / "reg"), "is_reg": True, "loss_weight": 0.5},
        ],
        "bucket_step": 8,
        "masked_training": True,
        "cache_dir": str(root / "cache"),
    }

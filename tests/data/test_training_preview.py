"""The previews of the Data tab against what the dataset of training hands out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.runs import make_images
from stiefel_lora.config import parse_config
from stiefel_lora.data import scan_all
from stiefel_lora.data.folder import scan_with_problems
from stiefel_lora.data.order import Visit
from stiefel_lora.data.prepare import encode_set
from stiefel_lora.data.tensor_store import TensorStore
from stiefel_lora.data.unreadable import UnreadableImage
from stiefel_lora.ui.controllers.survey import survey
from stiefel_lora.ui.controllers.training_preview import plan_in, trained_image

USES = 12


class _Family:
    """Return pixels and captions unchanged."""

    image_fingerprint = text_fingerprint = "x"

    def encode_image(self, pixels, frame):
        return {"latents": pixels}

    def encode_caption(self, caption):
        return {"text": torch.tensor([float(len(caption))])}


def make_folder(tmp_path):
    folder = make_images(tmp_path / "p", count=3)
    noise = np.random.default_rng(0)
    for number, size in enumerate([(96, 64), (64, 100), (80, 80)]):
        pixels = noise.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"0{number}.png")
        (folder / f"0{number}.txt").write_text("a, b, c, d, [trigger]")
    return folder


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("text", [True, False])
def test_previews_are_what_training_uses(tmp_path, cached, text):
    concept = {
        "path": str(make_folder(tmp_path)),
        "enable_random_flip": True,
        "enable_crop_jitter": True,
        "random_hue_max_strength": 0.3,
        "enable_tag_shuffling": True,
        "tag_dropout_probability": 0.3,
        "caption_dropout_rate": 0.3,
        "image_variations": 3,
        "text_variations": 5,
    }
    config = parse_config(
        {
            "concepts": [concept],
            "resolution": 64,
            "trigger_word": "ohwx",
            "latent_caching": cached,
            "train_text_encoder": not text,
            "train_text_encoder_2": not text,
        }
    )
    plan = plan_in(config, training=True)
    assert plan.encodes_text is text
    train, _ = scan_all(config)
    store = TensorStore(tmp_path / "cache")
    images = encode_set(train, _Family(), store, plan, lambda: None)
    # Before the trigger word was added.
    found = scan_with_problems(config.concepts).images
    captions = set()
    for place, image in enumerate(found):
        shown = trained_image(image, config, training=True)
        visits = [Visit(place, number) for number in range(USES)]
        expected = images.captions(visits)
        assert [shown.caption(number) for number in range(USES)] == expected
        captions.update(expected)
        for visit in visits[:5]:
            (pixels,) = images.batch([visit])["latents"]
            crop = np.array(shown.crop(visit.number))
            same = torch.from_numpy(crop).permute(2, 0, 1) / 127.5 - 1
            torch.testing.assert_close(same, pixels, rtol=0, atol=1e-6)
    assert "" in captions
    assert all("ohwx" in caption for caption in captions if caption)
    # Only captions of trained encoders vary without limit.
    assert (len(captions - {""}) > 5) is not text


def test_validation_images_are_shown_without_augmentation(tmp_path):
    folder = make_folder(tmp_path)
    concept = {"path": str(folder), "enable_random_flip": True}
    concept["caption_dropout_rate"] = 1.0
    config = parse_config(
        {
            "concepts": [concept],
            "resolution": 64,
            "validation_split": 0.4,
            "validate_every": 5,
        }
    )
    images = scan_with_problems(config.concepts).images
    shown = trained_image(images[0], config, training=False)
    assert shown.caption(0) == shown.caption(1) == "a, b, c, d"
    assert not shown.augmentation(1).mirrored
    trained = trained_image(images[0], config, training=True)
    assert trained.caption(0) == ""
    assert trained.is_dropped(0)
    aside = {image.path for image in scan_all(config)[1].images}
    assert survey(config).aside == aside
    assert len(aside) == 1


def test_the_crop_is_described(tmp_path):
    folder = make_folder(tmp_path)
    config = parse_config({"concepts": str(folder), "resolution": 64})
    wide, tall, square = scan_with_problems(config.concepts).images
    texts = [
        trained_image(image, config, training=True).describe(0)
        for image in (wide, tall, square)
    ]
    assert texts == [
        "96 x 64, scaled to 96 x 64, cropped to 64 x 64: 16 from the left, 16 from "
        "the right.",
        "64 x 100, scaled to 64 x 100, cropped to 64 x 64: 18 from the top, 18 from "
        "the bottom.",
        "80 x 80, scaled to 64 x 64, not cropped.",
    ]
    found = survey(config)
    assert {size: len(images) for size, images in found.images.items()} == {(64, 64): 3}


def test_an_image_that_is_skipped_has_no_preview(tmp_path):
    folder = make_folder(tmp_path)
    config = parse_config({"concepts": str(folder), "resolution": 1024})
    Image.new("RGB", (40, 40)).save(folder / "00.png")
    small = scan_with_problems(config.concepts).images[0]
    with pytest.raises(UnreadableImage, match="smaller than the bucket step"):
        trained_image(small, config, training=True)

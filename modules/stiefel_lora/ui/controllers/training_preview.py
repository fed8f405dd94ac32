"""Images and captions as they are used in training.

The crops and captions are computed by the functions of training (:class:`.data.Plan`).
"""

from __future__ import annotations

import dataclasses

from PIL import Image

from ...config import TrainConfig
from ...data.augmentation import Augmentation
from ...data.entry import Entry
from ...data.folder import CaptionedImage, Scan
from ...data.image_crop import crop_image
from ...data.plan import Plan, plan_of
from ...data.sizes import upright_size
from ...data.trigger_captions import add_trigger
from ...families.catalogue import record_of

__all__ = ["TrainedImage", "Use", "plan_in", "trained_image", "uses_of"]

_USES = 12
_DROPPED = "(empty: caption dropout)"
_EMPTY = "(empty)"


@dataclasses.dataclass(frozen=True)
class Use:
    """Use of an image in training."""

    caption: str
    """Caption, or "" if it is empty."""

    shown: str
    """Displayed text of the caption, also if it is empty."""

    description: str
    """Description of the crop and the other changes of the image."""


@dataclasses.dataclass(frozen=True)
class TrainedImage:
    """Image with its bucket and the processing of training."""

    entry: Entry
    plan: Plan

    def augmentation(self, number: int) -> Augmentation:
        """Return the crop and colors when the image is used the n-th time."""
        return self.plan.augmentation(self.entry, number)

    def caption(self, number: int) -> str:
        """Return the caption when the image is used the n-th time."""
        return self.plan.caption(self.entry.image, number)

    def is_dropped(self, number: int) -> bool:
        """Return whether caption dropout makes the caption empty."""
        return bool(self.entry.image.caption) and not self.caption(number)

    def crop(self, number: int) -> Image.Image:
        """Decode and crop the image when it is used the n-th time.

        Raises:
            UnreadableImage: If the file cannot be read.
        """
        return crop_image(self.entry.image.path, self.augmentation(number))

    def describe(self, number: int) -> str:
        """Return a description of the crop and the other changes of the image."""
        used = self.augmentation(number)
        frame = used.frame
        texts = [
            f"{frame.original[0]} x {frame.original[1]}",
            f"scaled to {frame.scaled[0]} x {frame.scaled[1]}",
        ]
        cut = [
            f"{amount} from the {side}"
            for side, amount in (
                ("left", frame.left),
                ("right", frame.scaled[0] - frame.size[0] - frame.left),
                ("top", frame.top),
                ("bottom", frame.scaled[1] - frame.size[1] - frame.top),
            )
            if amount
        ]
        size = f"{frame.size[0]} x {frame.size[1]}"
        texts += [f"cropped to {size}: {', '.join(cut)}"] if cut else ["not cropped"]
        # The image is flipped first, so that left and right are those of the result.
        texts += ["flipped"] if used.mirrored else []
        texts += ["colors changed"] if used.colors != [1, 1, 1, 0] else []
        return ", ".join(texts) + "."


def uses_of(image: TrainedImage, *, training: bool) -> list[Use]:
    """Return the first uses of an image. A validation image is always used alike.

    Args:
        image: the image.
        training: whether it is a training image and not a validation image.
    """
    found = []
    for number in range(_USES if training else 1):
        caption, description = image.caption(number), image.describe(number)
        shown = caption or (_DROPPED if image.is_dropped(number) else _EMPTY)
        if not training:
            description = f"Validation image, not augmented. {description}"
        found.append(Use(caption, shown, description))
    return found


def plan_in(config: TrainConfig, *, training: bool) -> Plan:
    """Return the processing of the training or validation images."""
    encoders = record_of(config.model_type).text_readers
    frozen = bool(encoders.keys() - config.text_encoder_rates.keys())
    return plan_of(config, training=training, encodes_text=frozen)


def trained_image(
    image: CaptionedImage,
    config: TrainConfig,
    *,
    training: bool,
    size: tuple[int, int] | None = None,
) -> TrainedImage:
    """Return an image as it is used in training, with the trigger word.

    Args:
        image: image with its captions.
        config: the settings.
        training: whether it is a training image and not a validation image.
        size: bucket of the image, if it has several. By default, and if the image is
            not in this bucket, that of its first resolution.

    Raises:
        UnreadableImage: If the size cannot be read or is not allowed.
    """
    plan = plan_in(config, training=training)
    (image,) = add_trigger(Scan((image,), ()), config.trigger_word).images
    original = upright_size(image.path)
    sizes = plan.buckets.sizes_for(original, image.concept.resolutions)
    entry = Entry(image, original, size if size in sizes else sizes[0])
    return TrainedImage(entry, plan)

"""Crops of images as training uses them, for browsers."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ...config import Concept, TrainConfig
from ...data.folder import CaptionedImage
from ...data.preview_image import check_image
from ...data.unreadable import UnreadableImage
from ..controllers.training_preview import TrainedImage, trained_image
from .security import Refusal, whole_number

if TYPE_CHECKING:
    from .context import WebContext

__all__ = ["Crop", "crop_address", "crop_in"]

# Pixels of an image that is decoded, and of one that is scaled before it is cropped.
_MOST_MEGAPIXELS = 100.0
_MOST_USES = 1000


@dataclasses.dataclass(frozen=True)
class Crop:
    """Crop of an image with the settings of the server."""

    path: Path
    config: TrainConfig
    concept: Concept
    training: bool
    number: int
    """Number of times that the image was used before."""

    size: tuple[int, int] | None = None
    """Bucket, if the image has several."""

    @property
    def key(self) -> str:
        """Text that differs if the pixels may differ."""
        settings = self.config.model_dump_json(by_alias=True)
        own = (self.path, self.concept, self.training, self.number, self.size)
        text = f"{settings}\n{own}".encode("utf-8", "surrogatepass")
        return hashlib.sha256(text).hexdigest()[:16]

    def decode(self) -> Image.Image:
        """Decode and crop the image.

        Raises:
            UnreadableImage: If it is damaged, too large, or skipped by training.
        """
        # The reader of training leaves formats to Pillow, some of which run programs.
        check_image(self.path, _MOST_MEGAPIXELS)
        image = CaptionedImage(self.path, ("",), self.concept)
        found = trained_image(
            image, self.config, training=self.training, size=self.size
        )
        _check_scale(found, self.number)
        try:
            return found.crop(self.number).convert("RGBA")
        except UnreadableImage:
            raise
        # Decoders raise many kinds of exceptions for damaged files.
        except Exception as error:
            raise UnreadableImage(str(error) or type(error).__name__) from error


def crop_address(
    context: WebContext,
    place: int,
    path: Path,
    side: int,
    *,
    training: bool,
    number: int = 0,
    size: tuple[int, int] | None = None,
) -> str | None:
    """Return the URL of the crop of an image.

    Args:
        context: settings and folders of the server.
        place: number of the concept, of which those for validation are last.
        path: absolute path of the image.
        side: length of the longer edge in pixels to which it is reduced.
        training: whether it is a training image and not a validation image.
        number: number of times that the image was used before.
        size: bucket, if the image has several.

    Returns:
        The URL, or None if the image is outside of the folders or the settings are
        invalid.
    """
    url, config = context.images.url_of(path, side), context.findings().config
    if url is None or config is None:
        return None
    concept = _concepts(config)[place]
    key = Crop(path, config, concept, training, number, size).key
    kind = "training" if training else "validation"
    bucket = "" if size is None else f"&size={size[0]}x{size[1]}"
    address = f"/crops/{kind}/{place}/{url.removeprefix('/images/')}"
    # The key is for the browser, which must not show the pixels of other settings.
    return f"{address}&use={number}{bucket}&key={key}"


def crop_in(
    context: WebContext, path: Path, parts: Mapping[str, str], query: Mapping[str, str]
) -> Crop:
    """Return the crop that a request names.

    Args:
        context: settings and folders of the server.
        path: checked path of the image.
        parts: ``kind`` and ``concept`` of the URL.
        query: ``use`` and ``size`` of the URL.

    Raises:
        Refusal: If there is no such concept or it is not shown, or the settings are
            invalid.
    """
    config = context.findings().config
    if config is None:
        raise Refusal(409, "The settings have errors. Correct them first.")
    concepts, place = _concepts(config), _number(parts["concept"])
    if place >= len(concepts) or parts["kind"] not in ("training", "validation"):
        raise Refusal(404, "There is no such image folder in the settings.")
    concept = concepts[place]
    if not context.images.serves(concept) or not _is_below(path, concept.path):
        raise Refusal(403, "Only images of the folders in the settings are cropped.")
    number, size = _number(query.get("use", "0")), query.get("size")
    if number >= _MOST_USES:
        raise Refusal(400, f"use must be less than {_MOST_USES}.")
    bucket = None
    if size is not None:
        width, _, height = size.partition("x")
        bucket = _number(width), _number(height)
    training = parts["kind"] == "training"
    return Crop(path, config, concept, training, number, bucket)


def _concepts(config: TrainConfig) -> list[Concept]:
    return [*config.concepts, *config.validation_concepts]


def _number(text: str) -> int:
    number = whole_number(text, 6)
    if number is None:
        raise Refusal(400, "A number in the address is not allowed.")
    return number


def _is_below(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _check_scale(image: TrainedImage, number: int) -> None:
    """Check that scaling does not need too much memory, as with extreme shapes."""
    frame = image.augmentation(number).frame
    for width, height in (frame.scaled, frame.size):
        if width * height > _MOST_MEGAPIXELS * 1e6:
            raise UnreadableImage(
                f"it would be scaled to {width} x {height} pixels, which is too large "
                "to be shown"
            )

"""Dataset of encoded images and captions."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._exceptions import DataError
from .augmentation import Augmentation, augmentation_count
from .balance import rates_of_entries
from .buckets import Size
from .encoder import Encoder
from .entry import Entry
from .folder import CaptionedImage
from .order import Visit
from .plan import Plan
from .unreadable import UnreadableImage

if TYPE_CHECKING:
    from ..checkpoints.tokens import Caption
    from ..families.protocol import Batch

__all__ = ["EncodedSet"]


class EncodedSet:
    """Dataset of encoded images, in the order of the scan.

    Args:
        entries: readable images, at each of their resolutions.
        encoder: encoder of images and captions.
        plan: processing of the images.
        unreadable: file name and reason of every image that was skipped.
    """

    def __init__(
        self, entries: list[Entry], encoder: Encoder, plan: Plan, unreadable: list[str]
    ) -> None:
        self._entries = entries
        self._plan = plan
        self.encoder = encoder
        self.unreadable = unreadable

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def images(self) -> list[CaptionedImage]:
        """Return the images with their captions, in the order of the indices.

        An image with several resolutions has an index for each of them.
        """
        return [entry.image for entry in self._entries]

    @property
    def distinct_images(self) -> list[CaptionedImage]:
        """Return every image once, also if it has several resolutions."""
        return list({id(entry.image): entry.image for entry in self._entries}.values())

    @property
    def rates(self) -> list[Fraction]:
        """Return how often each entry is used per epoch."""
        return rates_of_entries(self._entries)

    @property
    def encodes_text(self) -> bool:
        """Return whether batches contain captions that were encoded before training."""
        return self._plan.encodes_text

    @property
    def sizes(self) -> list[Size]:
        """Return width and height of each image after cropping."""
        return [entry.size for entry in self._entries]

    def prepare(self, entry: Entry) -> None:
        """Encode all versions of an image before training.

        Raises:
            UnreadableImage: If the image or its mask cannot be used.
        """
        count = augmentation_count(entry.image.concept) if self._plan.varied else 1
        for number in range(count if self._plan.cached else 1):
            augmentation = self._plan.augmentation(entry, number)
            if self._plan.cached:
                self.encoder.prepare_image(entry.image, augmentation)
            if self._plan.masked:
                tensors = self.encoder.image(entry.image, augmentation)
                self._mask(entry, augmentation, tensors["latents"])

    def batch(self, visits: Iterable[Visit]) -> Batch:
        """Create a batch of encoded images on the CPU.

        With masks, the batch contains ``mask`` ``(batch, 1, h, w)`` in [0, 1], and with
        weights of concepts ``loss_weight`` ``(batch,)``, both in float32. If the target
        of some images is the prediction of the base model, it contains
        ``prior_prediction`` ``(batch,)`` of bools.
        """
        items = [self._item(visit) for visit in visits]
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def captions(self, visits: Iterable[Visit]) -> list[Caption]:
        """Return the captions of a batch for trained text encoders."""
        return [self._caption(visit) for visit in visits]

    def _item(self, visit: Visit) -> dict[str, Tensor]:
        entry = self._entries[visit.image]
        augmentation = self._plan.augmentation(entry, visit.number)
        try:
            # A copy: the encoder keeps its dict in memory, and more entries follow.
            item = dict(self.encoder.image(entry.image, augmentation))
            if self._plan.masked:
                item["mask"] = self._mask_of_visit(
                    entry, augmentation, item["latents"], visit
                )
        except UnreadableImage as error:
            raise DataError(
                f"The image {entry.image.path} can no longer be read ({error}). "
                "Restore it, and resume with --resume."
            ) from error
        if self._weighted:
            item["loss_weight"] = torch.tensor(entry.image.concept.loss_weight)
        if self._has_prior:
            item["prior_prediction"] = torch.tensor(
                entry.image.concept.prior_prediction
            )
        if self._plan.encodes_text:
            item |= self.encoder.caption(self._caption(visit))
        return item

    def _caption(self, visit: Visit) -> Caption:
        image = self._entries[visit.image].image
        return self._plan.encoded_as(self._plan.caption(image, visit.number))

    @functools.cached_property
    def _weighted(self) -> bool:
        weights = {entry.image.concept.loss_weight for entry in self._entries}
        return self._plan.varied and weights != {1.0}

    @functools.cached_property
    def _has_prior(self) -> bool:
        found = any(entry.image.concept.prior_prediction for entry in self._entries)
        return self._plan.varied and found

    def _mask_of_visit(
        self, entry: Entry, augmentation: Augmentation, latents: Tensor, visit: Visit
    ) -> Tensor:
        # Seeded by name and visit, so that a resumed run draws the same.
        chance = random.Random(f"unmasked {entry.image.path.name}/{visit.number}")
        if chance.random() < self._plan.unmasked_probability:
            return torch.ones(1, *latents.shape[-2:])
        return self._mask(entry, augmentation, latents)

    def _mask(
        self, entry: Entry, augmentation: Augmentation, latents: Tensor
    ) -> Tensor:
        return self.encoder.mask(
            entry.image, augmentation, latents, self._plan.alpha_mask
        )

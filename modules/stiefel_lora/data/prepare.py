"""Encoding of images and captions before training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from .._share import Share
from .caption_variants import caption_variants, plain_caption
from .encoded import EncodedSet
from .encoder import Encoder, encode_caption
from .entry import Entry
from .folder import CaptionedImage, Scan
from .plan import Plan
from .sizes import upright_size
from .tensor_store import TensorStore
from .unreadable import UnreadableImage, check_some_readable

if TYPE_CHECKING:
    from ..families.protocol import Family

__all__ = ["EncodedSet", "encode_caption", "encode_set", "fill_cache"]

Tick = Callable[[], None]


def encode_set(
    scan: Scan, family: Family, store: TensorStore, plan: Plan, tick: Tick
) -> EncodedSet:
    """Encode all images and captions that are not in the cache.

    Args:
        scan: images and captions.
        family: model family with the encoders, which are only loaded if cached tensors
            are missing.
        store: cache of encoded tensors.
        plan: processing of the images.
        tick: function that is called after each image.

    Raises:
        DataError: If none of the images can be read.
    """
    entries: list[Entry] = []
    unreadable: list[str] = []
    found = EncodedSet(entries, Encoder(family, store, plan.cached), plan, unreadable)
    for image in scan.images:
        try:
            entries += _prepare(image, found, plan)
        except UnreadableImage as error:
            unreadable.append(f"{image.path} ({error})")
        tick()
    check_some_readable(len(scan.images), unreadable)
    return found


def fill_cache(
    scan: Scan, family: Family, store: TensorStore, plan: Plan, share: Share
) -> None:
    """Encode the images and captions of a process that are not in the cache.

    Unreadable images are skipped. :func:`encode_set` reports them.
    """
    found = EncodedSet([], Encoder(family, store, plan.cached), plan, [])
    for number, image in enumerate(scan.images):
        if share.takes(number):
            with contextlib.suppress(UnreadableImage):
                _prepare(image, found, plan)


def _prepare(image: CaptionedImage, found: EncodedSet, plan: Plan) -> list[Entry]:
    original = upright_size(image.path)
    sizes = plan.buckets.sizes_for(original, image.concept.resolutions)
    entries = [Entry(image, original, size) for size in sizes]
    for entry in entries:
        found.prepare(entry)
    if not plan.encodes_text:
        return entries
    texts = caption_variants(image) if plan.varied else [plain_caption(image)]
    for text in texts:
        found.encoder.prepare_caption(plan.encoded_as(text))
    return entries

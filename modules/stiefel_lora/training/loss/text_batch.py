"""Encoded captions of a batch, from the cache or from trained text encoders."""

from __future__ import annotations

from collections.abc import Sequence

from ...data.order import Visit
from ...data.prepare import EncodedSet
from ...families.protocol import Batch, Family

__all__ = ["batch_with_text", "text_of"]


def batch_with_text(
    images: EncodedSet, visits: Sequence[Visit], family: Family
) -> Batch:
    """Create a batch on the device of the model, with encoded captions.

    Outputs of frozen text encoders are read from the cache.
    """
    batch = images.batch(visits)
    # Before the encoders run: known outputs must be on their device.
    batch = {name: value.to(family.device) for name, value in batch.items()}
    return batch | text_of(images, visits, family, batch)


def text_of(
    images: EncodedSet, visits: Sequence[Visit], family: Family, batch: Batch
) -> Batch:
    """Encode captions with the trained text encoders in their current state.

    Args:
        images: images of the batch.
        visits: images and captions of the batch.
        family: model family.
        batch: batch on the device, with the outputs of frozen text encoders.

    Returns:
        The batch with the new outputs. Empty if no text encoder is trained.
    """
    if not family.trained_text:
        return {}
    # If all encoders are trained, no caption was cached.
    known = batch if images.encodes_text else None
    return family.encode_captions(images.captions(visits), known)

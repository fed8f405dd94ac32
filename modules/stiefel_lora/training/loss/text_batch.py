"""Encoded captions of a batch, from the cache or from trained text encoders."""

from __future__ import annotations

from collections.abc import Sequence

from ...data.order import Visit
from ...data.prepare import EncodedSet
from ...families.protocol import Batch, Family

__all__ = ["batch_with_text"]


def batch_with_text(
    images: EncodedSet, visits: Sequence[Visit], family: Family
) -> Batch:
    """Create a batch on the device of the model, with encoded captions.

    Outputs of frozen text encoders are read from the cache.
    """
    batch = images.batch(visits)
    # Before the encoders run: known outputs must be on their device.
    batch = {name: value.to(family.device) for name, value in batch.items()}
    if family.trained_text:
        # If all encoders are trained, no caption was cached.
        known = batch if images.encodes_text else None
        batch |= family.encode_captions(images.captions(visits), known)
    return batch

"""Images to learn from and to measure on, and how they are prepared."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .._base import Flag, FolderPath, Number, StrictModel, setting
from ..concept import Concepts
from ..parts import Side

__all__ = ["DataSettings"]


class DataSettings(StrictModel):
    """Images to learn from and to measure on, and how they are prepared."""

    concepts: Concepts = setting((), label="Concepts")
    """Folders of images to learn from, with captions in .txt files beside them."""

    validation_concepts: Concepts = setting((), label="Validation concepts")
    """Folders of images that are never learned from; the loss on them tells whether
    training still helps. Leave some images out for it if you can."""

    resolution: Side = setting(1024, label="Resolution")
    """Pixels of a square image's side, a multiple of 8; 1024 for SDXL. Buckets of
    other shapes have about as many pixels as this square."""

    aspect_ratio_bucketing: Flag = setting(True, label="Aspect ratio bucketing")
    """Cut images as little as possible: each goes to the bucket, of a list of sizes,
    whose shape is nearest to its own, and a batch holds images of one bucket. Off:
    the middle square of every image."""

    bucket_step: Annotated[int, Field(strict=True, ge=8, le=512, multiple_of=8)] = (
        setting(64, label="Bucket step")
    )
    """Pixels; the sides of buckets are multiples of it. Smaller: less is cut off, and
    there are more buckets."""

    max_aspect_ratio: Annotated[Number, Field(ge=1, le=16)] = setting(
        4.0, label="Maximum aspect ratio"
    )
    """Longer side of the longest bucket over its shorter side; longer images are
    cut."""

    allow_upscaling: Flag = setting(False, label="Allow upscaling")
    """Enlarge images that are smaller than their bucket. Off: they get a smaller
    bucket of their own size."""

    max_image_megapixels: Annotated[Number, Field(gt=0, le=4000)] = setting(
        179.0, label="Maximum image megapixels"
    )
    """Images of more pixels, in millions, are left out: a damaged or malicious file can
    ask for more memory than there is. Decoding takes about 4 bytes a pixel."""

    masked_training: Flag = setting(False, label="Masked training")
    """Learn where a mask is white, and elsewhere as unmasked_weight says: the mask of
    cat.jpg is the black and white image cat-masklabel.png. An image without one is
    learned as a whole."""

    alpha_mask: Flag = setting(False, label="Alpha mask")
    """With masked_training: an image without a mask of its own is masked by what is
    transparent in it."""

    unmasked_probability: Annotated[Number, Field(ge=0, le=1)] = setting(
        0.1, label="Unmasked probability"
    )
    """With masked_training: chance of an image to be learned as a whole this time."""

    latent_caching: Flag = setting(True, label="Latent caching")
    """Encode images once, before training. Off: encode them in every step, which
    needs the VAE on the device and time, and lets images vary without limit."""

    cache_dir: FolderPath | None = setting(
        None, label="Cache directory", unset_means="inside output_dir"
    )
    """Folder for encoded images and captions, which several runs can share."""

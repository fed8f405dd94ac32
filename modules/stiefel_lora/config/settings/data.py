"""Training and validation images, and their preprocessing."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .._base import Flag, FolderPath, Number, StrictModel, setting
from ..concept import Concepts
from ..parts import Side

__all__ = ["DataSettings"]


class DataSettings(StrictModel):
    """Training and validation images, and their preprocessing."""

    concepts: Concepts = setting((), label="Concepts")
    """Folders of training images, with captions in .txt files next to them."""

    validation_concepts: Concepts = setting((), label="Validation concepts")
    """Folders of images that are never trained on; the loss on them shows whether
    training still generalizes. To split images off instead, see validation_split."""

    validation_split: Annotated[Number, Field(ge=0, le=0.9)] = setting(
        0.0, label="Validation split"
    )
    """Fraction of the training images of each concept to use for validation instead,
    0.1 for a tenth; not of regularization images. The choice only depends on file names
    and validation_seed, so it is stable when images are added. 0: none."""

    validation_seed: Annotated[int, Field(strict=True, ge=0)] = setting(
        0, label="Validation seed"
    )
    """Seed of the random choice of validation_split."""

    resolution: Side = setting(1024, label="Resolution")
    """Side of a square image in pixels, a multiple of 8; 1024 for SDXL. Buckets of
    other shapes have about as many pixels as this square."""

    aspect_ratio_bucketing: Flag = setting(True, label="Aspect ratio bucketing")
    """Sort images into buckets by aspect ratio, so that little is cropped; a batch
    holds images of one bucket. Off: the center square of every image is used."""

    bucket_step: Annotated[int, Field(strict=True, ge=8, le=512, multiple_of=8)] = (
        setting(64, label="Bucket step")
    )
    """Step of the bucket sides in pixels. Smaller: less is cropped, and there are more
    buckets."""

    max_aspect_ratio: Annotated[Number, Field(ge=1, le=16)] = setting(
        4.0, label="Maximum aspect ratio"
    )
    """Longer side over shorter side of the most elongated bucket; images beyond it are
    cropped."""

    allow_upscaling: Flag = setting(False, label="Allow upscaling")
    """Enlarge images that are smaller than their bucket. Off: they get a smaller bucket
    of their own size."""

    max_image_megapixels: Annotated[Number, Field(gt=0, le=4000)] = setting(
        179.0, label="Maximum image megapixels"
    )
    """Images of more pixels, in millions, are skipped: a damaged or malicious file can
    request more memory than the machine has. Decoding takes about 4 bytes a pixel."""

    masked_training: Flag = setting(False, label="Masked training")
    """Train where a mask is white, and with unmasked_weight elsewhere. The mask of
    cat.jpg is the black and white image cat-masklabel.png. An image without a mask is
    trained as a whole."""

    alpha_mask: Flag = setting(False, label="Alpha mask")
    """With masked_training: use the alpha channel as mask for images without a mask
    file."""

    unmasked_probability: Annotated[Number, Field(ge=0, le=1)] = setting(
        0.1, label="Unmasked probability"
    )
    """With masked_training: probability of ignoring the mask of an image in a step."""

    latent_caching: Flag = setting(True, label="Latent caching")
    """Encode images once, before training. Off: encode them at every step, which takes
    time and needs the VAE on the device, but allows unlimited image variations."""

    cache_dir: FolderPath | None = setting(
        None, label="Cache directory", unset_means="inside output_dir"
    )
    """Folder for encoded images and captions; several runs can share it."""

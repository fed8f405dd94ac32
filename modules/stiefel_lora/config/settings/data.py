"""Training and validation images, and their preprocessing."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .._base import Flag, FolderPath, Number, StrictModel, setting
from ..concept import Concepts
from ..parts import Side
from ..trigger import TriggerWord

__all__ = ["DataSettings"]


class DataSettings(StrictModel):
    """Training and validation images, and their preprocessing."""

    concepts: Concepts = setting((), label="Concepts")
    """Folders with training images and their captions, which are .txt files next to the
    images."""

    trigger_word: TriggerWord | None = setting(
        None, label="Trigger word", unset_means="captions are not changed"
    )
    """Word that calls up the LoRA, such as ohwx. It replaces [trigger] in captions and
    sample prompts, and is put in front of those that do not contain it. Regularization
    images do not get it. It stays in front when tags are shuffled, is never dropped as
    a tag, and is written to the LoRA file."""

    validation_concepts: Concepts = setting((), label="Validation concepts")
    """Folders with images that are only used for validation, not for training. The
    validation loss shows whether training still generalizes. To set training images
    aside instead, use validation_split."""

    validation_split: Annotated[Number, Field(ge=0, le=0.9)] = setting(
        0.0, label="Validation split"
    )
    """Fraction of the training images of each concept to use for validation instead,
    e.g. 0.1 for a tenth. Regularization images are not affected. The choice only
    depends on the file names and validation_seed, so it is stable when images are
    added."""

    validation_seed: Annotated[int, Field(strict=True, ge=0)] = setting(
        0, label="Validation seed"
    )
    """Seed for the random choice of validation_split."""

    resolution: Side = setting(1024, label="Resolution")
    """Side length of a square image in pixels, which must be a multiple of 8. Use 1024
    for SDXL. Buckets of other shapes have about as many pixels as this square."""

    aspect_ratio_bucketing: Flag = setting(True, label="Aspect ratio bucketing")
    """Sort images into buckets by aspect ratio, so that little is cropped. All images
    in a batch are from the same bucket. If disabled, the center square of every image
    is used."""

    bucket_step: Annotated[int, Field(strict=True, ge=8, le=512, multiple_of=8)] = (
        setting(64, label="Bucket step")
    )
    """Step between the side lengths of buckets in pixels. With a smaller step, images
    are cropped less, but there are more buckets."""

    max_aspect_ratio: Annotated[Number, Field(ge=1, le=16)] = setting(
        4.0, label="Maximum aspect ratio"
    )
    """Maximum ratio of the longer to the shorter side of a bucket. Images with a higher
    ratio are cropped."""

    allow_upscaling: Flag = setting(False, label="Allow upscaling")
    """Enlarge images that are smaller than their bucket. If disabled, small images get
    a smaller bucket of their own size."""

    max_image_megapixels: Annotated[Number, Field(gt=0, le=4000)] = setting(
        179.0, label="Maximum image megapixels"
    )
    """Maximum size of an image in millions of pixels. Larger images are skipped,
    because a damaged or malicious file can request more memory than the machine has.
    Decoding takes about 4 bytes per pixel."""

    masked_training: Flag = setting(False, label="Masked training")
    """Train the areas where the mask is white, and the other areas with
    unmasked_weight. The mask of cat.jpg is the black and white image cat-masklabel.png.
    If an image has no mask, the whole image is trained."""

    alpha_mask: Flag = setting(False, label="Alpha mask")
    """If masked_training is enabled, use the alpha channel as the mask of images that
    have no mask file."""

    unmasked_probability: Annotated[Number, Field(ge=0, le=1)] = setting(
        0.1, label="Unmasked probability"
    )
    """If masked_training is enabled, the probability of ignoring the mask of an image
    in a step."""

    latent_caching: Flag = setting(True, label="Latent caching")
    """Encode images once before training. If disabled, images are encoded at every
    step, which takes time and needs the VAE on the device, but allows unlimited image
    variations."""

    cache_dir: FolderPath | None = setting(
        None, label="Cache directory", unset_means="inside output_dir"
    )
    """Folder for encoded images and captions. Several runs can share it."""

"""Training and validation images, and their preprocessing."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .._base import Flag, FolderPath, Number, StrictModel, setting
from ..alpha_background import WHITE, Background
from ..concept import Concepts
from ..parts import Side, Sides
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
    """Folders with images that are only used for validation. The validation loss shows
    whether the model is overfitting. To use a part of the training images for
    validation instead, set validation_split.
    """

    validation_split: Annotated[Number, Field(ge=0, le=0.9)] = setting(
        0.0, label="Validation split"
    )
    """Fraction of the training images of each concept that is used for validation
    instead, for example 0.1. Regularization images are not affected. The selection only
    depends on the file names and validation_seed, so it changes little if images are
    added.
    """

    validation_seed: Annotated[int, Field(strict=True, ge=0)] = setting(
        0, label="Validation seed"
    )
    """Seed for the random selection of validation_split."""

    resolution: Side = setting(1024, label="Resolution")
    """Width and height of square training images in pixels. Must be a multiple of 8.
    Use 1024 for SDXL. Buckets with other aspect ratios have about the same number of
    pixels.
    """

    extra_resolutions: Sides = setting((), label="Extra resolutions")
    """Other resolutions at which images are also trained, for example 512 and 768. Each
    image is used equally often at each of them, and as often as before in total.
    """

    aspect_ratio_bucketing: Flag = setting(True, label="Aspect ratio bucketing")
    """Sort images into buckets by aspect ratio, so that less is cropped. All images in
    a batch are from the same bucket. If disabled, the center square of every image is
    used.
    """

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
    """Enlarge images that are smaller than their bucket. If disabled, smaller buckets
    are created for small images.
    """

    max_image_megapixels: Annotated[Number, Field(gt=0, le=4000)] = setting(
        179.0, label="Maximum image megapixels"
    )
    """Maximum size of an image in megapixels. Larger images are skipped, because
    decoding needs about 4 bytes of memory per pixel, and a damaged or malicious file
    could use all memory.
    """

    alpha_background: Background = setting(WHITE, label="Background of transparency")
    """Color of transparent areas of images, such as #000000. With none, the colors are
    used that these areas have in the file, as in OneTrainer and sd-scripts. They are
    often black.
    """

    masked_training: Flag = setting(False, label="Masked training")
    """Use masks in the loss. White areas of the mask have weight 1, and black areas
    have weight unmasked_weight. The mask of cat.jpg is the image cat-masklabel.png.
    Images without a mask are trained without masking.
    """

    alpha_mask: Flag = setting(False, label="Alpha mask")
    """If masked_training is enabled, use the alpha channel as the mask of images that
    have no mask file."""

    unmasked_probability: Annotated[Number, Field(ge=0, le=1)] = setting(
        0.1, label="Unmasked probability"
    )
    """Probability of ignoring the mask of an image in a step, if masked_training is
    enabled.
    """

    latent_caching: Flag = setting(True, label="Latent caching")
    """Encode images once before training. If disabled, images are encoded in every
    step. This is slower and needs more GPU memory for the VAE, but allows different
    augmentations in every epoch.
    """

    cache_dir: FolderPath | None = setting(
        None, label="Cache directory", unset_means="inside output_dir"
    )
    """Folder for encoded images and captions. Several runs can share it."""

"""Splitting training images off for validation.

Each image gets a number from its path in the concept and the seed, and the images with
the lowest numbers are split off. Adding an image thus changes the choice of at most one
other image, unlike shuffling.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .._exceptions import DataError
from .folder import CaptionedImage, Scan, refuse, scan_with_problems

if TYPE_CHECKING:
    from ..config import TrainConfig
    from ..config.concept import Concept

__all__ = ["scan_all", "split_scan"]


def scan_all(config: TrainConfig) -> tuple[Scan, Scan]:
    """List the images to train on and those of the validation set.

    Raises:
        DataError: as ``scan_concepts``, for both at once; an image that is to be split.
    """
    train = scan_with_problems(config.concepts)
    validation = scan_with_problems(config.validation_concepts)
    refuse({**train.problems, **validation.problems})
    kept, aside = split_scan(train, config.validation_split, config.validation_seed)
    images = (*validation.images, *aside.images)
    bare = (*validation.uncaptioned, *aside.uncaptioned)
    return kept, dataclasses.replace(validation, images=images, uncaptioned=bare)


def split_scan(scan: Scan, share: float, seed: int) -> tuple[Scan, Scan]:
    """Split off a fraction of the images of each concept.

    Regularization images are not split: they are not the subject of the training.

    Args:
        scan: training images; problems and remarks stay with the first part.
        share: in [0, 1); at least one image of each concept is split off.
        seed: seed of the choice.

    Returns:
        The remaining images, and those that were split off.

    Raises:
        DataError: a concept with a single image.
    """
    if not share:
        return scan, dataclasses.replace(scan, images=(), uncaptioned=(), remarks=())
    # By path: an image that is listed by two concepts is split off from both, or it
    # would be used for training and validation.
    chosen: set[Path] = set()
    remarks = []
    for concept, images in _by_concept(scan):
        if len(images) < 2:
            raise DataError(
                f"validation_split: the folder {concept.path} has one image, which "
                f"cannot be split. Add images, or write validation_split 0"
            )
        count = min(max(1, round(share * len(images))), len(images) - 1)
        ordered = sorted(images, key=lambda image: _number(image, seed))
        chosen |= {image.path for image in ordered[:count]}
        remarks.append(
            f"validation_split: {count} of {len(images)} images in {concept.path} "
            f"{'is' if count == 1 else 'are'} set aside for validation."
        )
    kept = _part(scan, [image for image in scan.images if image.path not in chosen])
    aside = _part(scan, [image for image in scan.images if image.path in chosen])
    return (
        dataclasses.replace(kept, remarks=(*scan.remarks, *remarks)),
        dataclasses.replace(aside, remarks=(), problems={}),
    )


def _by_concept(scan: Scan) -> Iterator[tuple[Concept, list[CaptionedImage]]]:
    """Images of each concept except for regularization, in order."""
    for _, group in itertools.groupby(scan.images, key=lambda image: id(image.concept)):
        images = list(group)
        if not images[0].concept.is_reg:
            yield images[0].concept, images


def _part(scan: Scan, images: list[CaptionedImage]) -> Scan:
    paths = {image.path for image in images}
    return dataclasses.replace(
        scan,
        images=tuple(images),
        uncaptioned=tuple(path for path in scan.uncaptioned if path in paths),
    )


def _number(image: CaptionedImage, seed: int) -> bytes:
    name = image.path.relative_to(image.concept.path).as_posix()
    return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()

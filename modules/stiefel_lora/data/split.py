"""Selection of training images for validation.

A number is computed for each image from its path in the concept and the seed. The
images with the lowest numbers are used for validation. If an image is added, the
selection changes for at most one other image, unlike shuffling.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .._exceptions import DataError
from .duplicates import duplicates
from .folder import CaptionedImage, Scan, refuse, scan_with_problems
from .trigger_captions import add_trigger

if TYPE_CHECKING:
    from ..config import TrainConfig
    from ..config.concept import Concept

__all__ = ["scan_all", "split_scan"]


def scan_all(config: TrainConfig) -> tuple[Scan, Scan]:
    """List the training images and the validation images.

    Raises:
        DataError: If :func:`scan_concepts` raises an error, or a concept to split has
            only one image.
    """
    word = config.trigger_word
    train = add_trigger(scan_with_problems(config.concepts), word)
    validation = add_trigger(scan_with_problems(config.validation_concepts), word)
    refuse({**train.problems, **validation.problems})
    kept, aside = split_scan(train, config.validation_split, config.validation_seed)
    images = (*validation.images, *aside.images)
    bare = (*validation.uncaptioned, *aside.uncaptioned)
    return kept, dataclasses.replace(validation, images=images, uncaptioned=bare)


def split_scan(scan: Scan, share: float, seed: int) -> tuple[Scan, Scan]:
    """Split the images of each concept into training and validation images.

    Regularization images are only used for training.

    Args:
        scan: training images.
        share: fraction of the validation images, in [0, 1). At least one image of each
            concept is used for validation.
        seed: seed of the selection.

    Returns:
        The training images and the validation images. Messages are part of the first.

    Raises:
        DataError: If a concept has only one image, or all concepts are regularization
            images.
    """
    if not share:
        return scan, dataclasses.replace(scan, images=(), uncaptioned=(), remarks=())
    # By content: an image that is there twice, as a copy, as a link or in two concepts,
    # would otherwise be used for training and validation.
    same = {
        path: group[0]
        for group in duplicates(image.path for image in scan.images)
        for path in group
    }
    contents = {i.path: same.get(i.path, i.path) for i in scan.images}
    aside, remarks = _decide(scan, contents, share, seed)

    # A content that is set aside leaves all concepts, regularization images included.
    kept = [i for i in scan.images if not aside.get(contents[i.path], False)]
    # Once each, however many concepts have them, and not as regularization images.
    measured = {
        contents[image.path]: image
        for image in reversed(scan.images)
        if aside.get(contents[image.path], False) and not image.concept.is_reg
    }
    chosen = list(reversed(measured.values()))
    return (
        dataclasses.replace(_part(scan, kept), remarks=(*scan.remarks, *remarks)),
        dataclasses.replace(_part(scan, chosen), remarks=(), problems={}),
    )


def _decide(
    scan: Scan, contents: Mapping[Path, Path], share: float, seed: int
) -> tuple[dict[Path, bool], list[str]]:
    """Return whether each file is used for validation, and a message for each concept.

    Files with the same content are selected together, also in different concepts.
    """
    aside: dict[Path, bool] = {}
    remarks = []
    for concept, images in _by_concept(scan):
        # Reversed, so that the first of several copies remains.
        first = {contents[image.path]: image for image in reversed(images)}
        if len(first) < 2:
            copies = "" if len(images) == 1 else " (copies count once)"
            raise DataError(
                f"validation_split: the folder {concept.path} has only one "
                f"image{copies}, which cannot be split. Add images, or set "
                "validation_split to 0"
            )
        count = min(max(1, round(share * len(first))), len(first) - 1)
        # What an earlier concept set aside counts towards the share of this one.
        count -= sum(aside.get(content, False) for content in first)
        new = [content for content in first if content not in aside]
        numbers = {content: _number(first[content], seed) for content in new}
        new.sort(key=numbers.__getitem__)
        aside |= {content: place < count for place, content in enumerate(new)}
        count = sum(aside[contents[image.path]] for image in images)
        remarks.append(
            f"validation_split: {count} of {len(images)} images in {concept.path} "
            f"{'is' if count == 1 else 'are'} used for validation."
        )
    if not aside:
        raise DataError(
            "validation_split: all concepts are regularization images (is_reg), "
            "which are never split. Add a concept, or set validation_split to 0"
        )
    return aside, remarks


def _by_concept(scan: Scan) -> Iterator[tuple[Concept, list[CaptionedImage]]]:
    """Yield the images of each concept, except for regularization images."""
    # By identity, since a folder may be listed twice with equal settings.
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
    # Relative to the concept: a moved or renamed folder keeps its split.
    name = image.path.relative_to(image.concept.path).as_posix()
    return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()

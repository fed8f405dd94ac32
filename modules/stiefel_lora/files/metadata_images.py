"""Metadata of the training images in the format of sd-scripts.

Forge and A1111 show the buckets, the number of images and the tags. The JSON objects
have the format of sd-scripts (``train_network.py`` and ``BaseDataset.make_buckets``).
Only the names of folders are stored, not their paths.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["LearnedFolder", "image_metadata", "tag_frequency"]


@dataclasses.dataclass(frozen=True)
class LearnedFolder:
    """Image folder for the metadata of a LoRA file."""

    name: str
    """Name of the folder without its parent folders."""

    captions: Sequence[str]
    """Caption of each image."""

    repeats: float = 1
    """Average number of times that each image is used per epoch."""

    is_reg: bool = False
    """Whether the images are regularization images."""

    tag_delimiter: str = ","


def image_metadata(
    folders: Sequence[LearnedFolder], buckets: Mapping[tuple[int, int], float]
) -> dict[str, object]:
    """Create the metadata entries of images, folders, buckets and tags.

    Args:
        folders: training image folders.
        buckets: number of images per epoch, including repeats, by (width, height).
    """
    named = _distinct(folders)
    return {
        "ss_tag_frequency": {
            name: tag_frequency(folder.captions, folder.tag_delimiter)
            for name, folder in named.items()
        },
        "ss_dataset_dirs": _folder_entries(named, is_reg=False),
        "ss_reg_dataset_dirs": _folder_entries(named, is_reg=True),
        "ss_num_train_images": _visits(folders, is_reg=False),
        "ss_num_reg_images": _visits(folders, is_reg=True),
        "ss_bucket_info": {
            "buckets": {
                str(number): {"resolution": list(size), "count": round(buckets[size])}
                for number, size in enumerate(sorted(buckets))
            }
        },
    }


def tag_frequency(captions: Iterable[str], delimiter: str = ",") -> dict[str, int]:
    """Count the tags in captions, most frequent first."""
    counts = collections.Counter(
        tag
        for caption in captions
        for part in caption.split(delimiter)
        if (tag := part.strip())
    )
    return dict(counts.most_common())


def _distinct(folders: Sequence[LearnedFolder]) -> dict[str, LearnedFolder]:
    """Return folders by name. Numbers are appended to duplicate names."""
    named: dict[str, LearnedFolder] = {}
    for folder in folders:
        name, number = folder.name, 1
        while name in named:
            number += 1
            name = f"{folder.name} ({number})"
        named[name] = folder
    return named


def _folder_entries(
    named: Mapping[str, LearnedFolder], is_reg: bool
) -> dict[str, object]:
    return {
        name: {"n_repeats": _short(folder.repeats), "img_count": len(folder.captions)}
        for name, folder in named.items()
        if folder.is_reg == is_reg
    }


def _visits(folders: Sequence[LearnedFolder], is_reg: bool) -> int:
    return round(
        sum(f.repeats * len(f.captions) for f in folders if f.is_reg == is_reg)
    )


def _short(repeats: float) -> int | float:
    return int(repeats) if repeats == int(repeats) else round(repeats, 4)

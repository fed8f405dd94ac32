"""What a LoRA file says of the pictures it was learned from, in sd-scripts' words.

Forge and A1111 show the buckets, the number of pictures and the tags; their parsers
take JSON objects of exactly these shapes (sd-scripts, ``train_network.py`` and
``BaseDataset.make_buckets``). Folders go by their names: no path gets into a file.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["LearnedFolder", "image_metadata", "tag_frequency"]


@dataclasses.dataclass(frozen=True)
class LearnedFolder:
    """A folder of pictures, as far as files tell of it."""

    name: str
    """Its own name, without the folders above."""

    captions: Sequence[str]
    """One a picture."""

    repeats: float = 1
    """How often each picture comes up in a pass, on average."""

    is_reg: bool = False
    """Whether it holds regularisation pictures."""

    tag_delimiter: str = ","


def image_metadata(
    folders: Sequence[LearnedFolder], buckets: Mapping[tuple[int, int], float]
) -> dict[str, object]:
    """Entries on pictures, their folders, buckets and tags.

    Args:
        folders: those that were learned from.
        buckets: (width, height) -> pictures a pass, repeats counted.
    """
    named = _distinct(folders)
    return {
        "ss_tag_frequency": {
            name: tag_frequency(folder.captions, folder.tag_delimiter)
            for name, folder in named.items()
        },
        "ss_dataset_dirs": _told(named, is_reg=False),
        "ss_reg_dataset_dirs": _told(named, is_reg=True),
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
    """Count the tags of captions, most frequent first."""
    counts = collections.Counter(
        tag
        for caption in captions
        for part in caption.split(delimiter)
        if (tag := part.strip())
    )
    return dict(counts.most_common())


def _distinct(folders: Sequence[LearnedFolder]) -> dict[str, LearnedFolder]:
    """By name; a second folder of one name gets a number, so that none is lost."""
    named: dict[str, LearnedFolder] = {}
    for folder in folders:
        name, number = folder.name, 1
        while name in named:
            number += 1
            name = f"{folder.name} ({number})"
        named[name] = folder
    return named


def _told(named: Mapping[str, LearnedFolder], is_reg: bool) -> dict[str, object]:
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

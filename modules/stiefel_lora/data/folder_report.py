"""Report on the training images and their problems.

This module does not import torch. Images are decoded by a function of the caller.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .._exceptions import DataError
from .._wording import counted
from .balance import rates_of, rates_of_entries
from .buckets import Buckets, Size, buckets_of, size_remark
from .captions import listed_in
from .color_profiles import profile_remarks
from .duplicates import duplicates
from .entry import Entry
from .folder import CaptionedImage, refuse, scan_with_problems
from .frames import frame_remarks
from .sizes import upright_size
from .unreadable import UnreadableImage

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["Decode", "ScanReport", "report_on", "sizes_of"]

Decode = Callable[[Mapping[Path, Size]], Mapping[Path, str]]
"""Function from the sizes of images to the reasons why some cannot be decoded."""

# Maximum number of files in a message.
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class ScanReport:
    """Counts and problems of the training images."""

    images: int
    """Number of image files, including unreadable ones."""

    per_pass: float
    """Average number of images used in one epoch."""

    smallest: Size | None
    """Width and height of the image with the fewest pixels."""

    largest: Size | None
    """Width and height of the image with the most pixels."""

    buckets: dict[Size, int]
    """Number of images in each bucket, in descending order.

    An image is in a bucket of each of its resolutions.
    """

    small_buckets: dict[Size, int]
    """Buckets with fewer images per epoch than a batch."""

    without_caption: tuple[Path, ...]
    """Images that are trained with an empty caption."""

    broken: dict[Path, str]
    """Images that are skipped, with the reasons."""

    duplicates: tuple[tuple[Path, ...], ...]
    """Files with the same content, in groups of two or more."""

    listed_but_missing: tuple[Path, ...]
    """Images that are listed in metadata.jsonl, but do not exist."""

    remarks: tuple[str, ...]
    """Messages about skipped files, masks and color profiles."""

    problems: Mapping[Path, str]
    """Error messages about folders and caption files that cannot be used."""

    entries: tuple[Entry, ...] = ()
    """Readable images with their sizes and buckets, one for each resolution."""

    def messages(self) -> list[str]:
        """Return the report as text: a summary, and a line for each kind of problem."""
        found = [
            f"{counted(self.images, 'image', 'images')}, {self.per_pass:g} per "
            f"epoch, in {counted(len(self.buckets), 'bucket', 'buckets')}"
            + (" of " if self.buckets else "")
            + ", ".join(
                f"{w} x {h} ({n})" for (w, h), n in list(self.buckets.items())[:8]
            )
            + (" ..." if len(self.buckets) > 8 else "")
            + "."
        ]
        if self.small_buckets:
            found.append(
                counted(len(self.small_buckets), "bucket has", "buckets have")
                + " fewer images per epoch than the batch size. Some of their batches "
                "contain the same image twice."
            )
        listed = "listed in metadata.jsonl but"
        for one, many, paths in (
            ("has no caption", "have no caption", self.without_caption),
            (
                "cannot be read and is skipped",
                "cannot be read and are skipped",
                tuple(self.broken),
            ),
            (
                f"is {listed} does not exist",
                f"are {listed} do not exist",
                self.listed_but_missing,
            ),
        ):
            if paths:
                count = counted(len(paths), f"image {one}", f"images {many}")
                found.append(f"{count}: {_some(paths)}.")
        if self.broken:
            reasons = [f"{path.name} ({why})" for path, why in self.broken.items()]
            found.append(
                f"Reasons for skipping images: {'; '.join(reasons[:_SHOWN])}"
                f"{' ...' if len(reasons) > _SHOWN else ''}."
            )
        if self.duplicates:
            group = [path.name for path in self.duplicates[0]]
            more = len(group) > _SHOWN or len(self.duplicates) > 1
            first = " = ".join(group[:_SHOWN])
            found.append(
                f"{counted(len(self.duplicates), 'image has', 'images have')} "
                "duplicates: "
                f"{first}{' ...' if more else ''}."
            )
        return [*found, *self.remarks]

    def files(self, more: Mapping[Path, str] | None = None) -> list[str]:
        """Return a line for each file with a problem: its path and all reasons.

        Args:
            more: other problems by path.
        """
        found: dict[Path, list[str]] = collections.defaultdict(list)
        for path, reason in self.broken.items():
            found[path].append(f"skipped: {reason}")
        for path in self.without_caption:
            found[path].append("no caption")
        for first, *others in self.duplicates:
            for path in others:
                found[path].append(f"same content as {first}")
        for path in self.listed_but_missing:
            found[path].append("listed in metadata.jsonl, but does not exist")
        for path, reason in (more or {}).items():
            found[path].append(reason)
        return [f"{path}: {'; '.join(found[path])}" for path in sorted(found)]


def report_on(config: TrainConfig, decode: Decode | None = None) -> ScanReport:
    """Create a report on the training images.

    Args:
        config: configuration with the concepts and buckets.
        decode: function that finds truncated images, see :mod:`.decode_check`. If
            None, only headers are read.

    Raises:
        DataError: If no folder contains images.
    """
    scan = scan_with_problems(config.concepts)
    if not scan.images:
        refuse(scan.problems)
    buckets = buckets_of(config)
    sizes, broken = sizes_of(scan.images, buckets, decode)
    good = [scan.images[number] for number in sizes]
    rates = rates_of(good)
    entries = [
        Entry(scan.images[number], size, bucket)
        for number, (size, own) in sizes.items()
        for bucket in own
    ]
    files = [image.path for image in good]
    chosen = collections.Counter(entry.size for entry in entries)
    per_pass: dict[Size, float] = collections.defaultdict(float)
    for rate, entry in zip(rates_of_entries(entries), entries, strict=True):
        per_pass[entry.size] += float(rate)
    originals = sorted((size for size, _ in sizes.values()), key=_area)
    return ScanReport(
        images=len(scan.images),
        per_pass=float(sum(rates)),
        smallest=originals[0] if originals else None,
        largest=originals[-1] if originals else None,
        buckets=dict(chosen.most_common()),
        small_buckets={
            bucket: count
            for bucket, count in chosen.items()
            if per_pass[bucket] < config.batch_size
        },
        without_caption=scan.uncaptioned,
        broken=broken,
        duplicates=duplicates(files),
        listed_but_missing=_listed_but_missing(scan.images),
        remarks=tuple(
            remark
            for remark in (
                *scan.remarks,
                size_remark(originals, buckets),
                *frame_remarks(files),
                *profile_remarks(files),
            )
            if remark
        ),
        problems=scan.problems,
        entries=tuple(entries),
    )


def sizes_of(
    images: Sequence[CaptionedImage], buckets: Buckets, decode: Decode | None = None
) -> tuple[dict[int, tuple[Size, tuple[Size, ...]]], dict[Path, str]]:
    """Read the sizes of images.

    Args:
        images: the images.
        buckets: the buckets.
        decode: as for :func:`report_on`.

    Returns:
        Sizes and buckets of usable images by index, and the reasons for skipping
        others.
    """
    sizes: dict[int, tuple[Size, tuple[Size, ...]]] = {}
    broken: dict[Path, str] = {}
    for number, image in enumerate(images):
        try:
            size = upright_size(image.path)
            own = buckets.sizes_for(size, image.concept.resolutions)
        except UnreadableImage as error:
            broken[image.path] = str(error)
        else:
            sizes[number] = size, own
    if decode is not None:
        broken |= decode({images[k].path: size for k, (size, _) in sizes.items()})
        sizes = {k: v for k, v in sizes.items() if images[k].path not in broken}
    order = {image.path: None for image in images}
    return sizes, {path: broken[path] for path in order if path in broken}


def _area(size: Size) -> int:
    return size[0] * size[1]


def _listed_but_missing(images: Sequence[CaptionedImage]) -> tuple[Path, ...]:
    folders = {p.path.parent for p in images} | {p.concept.path for p in images}
    listed: list[Path] = []
    for folder in sorted(folders):
        # A file that cannot be read is reported as a problem.
        with contextlib.suppress(DataError):
            listed += listed_in(folder)
    # Not Path.is_file, which raises on names that are too long.
    return tuple(path for path in dict.fromkeys(listed) if not os.path.isfile(path))


def _some(paths: Sequence[Path]) -> str:
    shown = ", ".join(path.name for path in paths[:_SHOWN])
    return shown + (" ..." if len(paths) > _SHOWN else "")

"""Changes of the images of a run since a checkpoint was written.

The order of images depends on their number, repeats and buckets (``data.order``). If
images are added or removed, training can be resumed, but with another order.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...data.folder import CaptionedImage, Scan

if TYPE_CHECKING:
    from .checkpoint import Checkpoint

__all__ = ["changes_since", "image_changes", "images_of"]

Listing = dict[str, list[Any]]
"""File sizes in bytes and hashes of captions, by concept number and relative path."""

# Maximum number of files of one kind in a message.
_SHOWN = 3


def images_of(train: Scan, validation: Scan) -> dict[str, Listing]:
    """List the images of a run by configuration key."""
    return {
        "concepts": _listing(train),
        "validation_concepts": _listing(validation),
    }


def changes_since(checkpoint: Checkpoint, train: Scan, validation: Scan) -> list[str]:
    """Return messages about changed images since a checkpoint."""
    before = checkpoint.training.get("images")
    return image_changes(before, images_of(train, validation), checkpoint.step)


def image_changes(before: Any, now: dict[str, Listing], step: int) -> list[str]:
    """Describe changed images since a checkpoint, and the consequences.

    Args:
        before: result of :func:`images_of` in the checkpoint. None in older
            checkpoints.
        now: current result of :func:`images_of`.
        step: step of the checkpoint.
    """
    if not isinstance(before, dict):
        return []
    found = []
    for key, files in now.items():
        what = dict(_differences(before.get(key) or {}, files))
        if what:
            words = "; ".join(what.values())
            meaning = _meaning(key, set(what), step)
            found.append(
                f"{key}: images changed since the checkpoint: {words}. {meaning}"
            )
    return found


def _listing(scan: Scan) -> Listing:
    numbers: dict[int, int] = {}
    found: Listing = {}
    for image in scan.images:
        number = numbers.setdefault(id(image.concept), len(numbers))
        top = image.concept.path
        # The repeats are part of the name of a subfolder.
        top = top.parent if image.concept.subfolder_repeats else top
        name = Path(os.path.relpath(image.path, top)).as_posix()
        captions = "\0".join(image.captions).encode("utf-8", errors="surrogatepass")
        found[f"{number}/{name}"] = [
            _bytes(image),
            hashlib.sha256(captions).hexdigest()[:16],
        ]
    return found


def _bytes(image: CaptionedImage) -> list[int]:
    """Return the file sizes of an image and its mask in bytes. -1 if missing."""

    def size(path: Path | None) -> int:
        try:
            return -1 if path is None else path.stat().st_size
        except OSError:
            return -1

    return [size(image.path), size(image.mask)]


def _differences(before: Listing, now: Listing) -> Iterator[tuple[str, str]]:
    both = [name for name in now if name in before]
    kinds = {
        "added": [name for name in now if name not in before],
        "removed": [name for name in before if name not in now],
        "captions": [name for name in both if now[name][1] != before[name][1]],
        "content": [name for name in both if now[name][0] != before[name][0]],
    }
    words = {
        "added": "added",
        "removed": "removed",
        "captions": "with changed captions",
        "content": "with changed content or mask",
    }
    for kind, names in kinds.items():
        if names:
            yield kind, f"{len(names)} {words[kind]} ({_shown(names)})"


def _shown(names: Sequence[str]) -> str:
    files = [name.partition("/")[2] for name in names[:_SHOWN]]
    return ", ".join([*files, "..."] if len(names) > _SHOWN else files)


def _meaning(key: str, kinds: set[str], step: int) -> str:
    if key != "concepts":
        return f"Validation losses before and after step {step} are not comparable."
    if kinds & {"added", "removed"}:
        return (
            f"After step {step}, the images are in the order of the changed "
            "dataset. In the interrupted epoch, some images are used twice and "
            "others are not used. The result differs from that of an uninterrupted "
            "run."
        )
    if "content" in kinds:
        return (
            "The order is unchanged, unless an image moves to another bucket. The "
            f"changed images are used after step {step}."
        )
    return f"The order is unchanged. The changed captions are used after step {step}."

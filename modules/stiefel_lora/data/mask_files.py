"""Mask files and their images: ``cat-masklabel.png`` is the mask of ``cat.jpg``.

The names are the same as in OneTrainer. Other cases and image formats are supported,
but files with the exact name of OneTrainer take precedence. Conditioning images
(``cat-condlabel.png``) are never used as training images.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from .._wording import counted
from .image_formats import HEIF_SUFFIXES, IMAGE_SUFFIXES

__all__ = ["LABEL_SUFFIXES", "is_label", "pair_masks"]

LABEL_SUFFIXES = IMAGE_SUFFIXES | HEIF_SUFFIXES
_Masks = dict[tuple[Path, str], list[Path]]

# Suffixes of copies ("a-masklabel (1)", "a-masklabel copy") or a doubled extension
# ("a-masklabel.png"): these are masks, but of an unknown image.
_LABEL = re.compile(
    r"(?P<stem>.*)-(?P<kind>masklabel|condlabel)(?P<rest>[\s.(~+].*|[_-]?\d.*)?",
    re.IGNORECASE,
)


def is_label(path: Path) -> bool:
    """Return whether a file is a mask or conditioning image, by its name.

    >>> is_label(Path("cat-MaskLabel.PNG")), is_label(Path("cat.png"))
    (True, False)
    >>> is_label(Path("cat-masklabel (1).png")), is_label(Path("-masklabel.png"))
    (True, True)
    """
    named = _LABEL.fullmatch(path.stem)
    return named is not None and path.suffix.lower() in LABEL_SUFFIXES


def pair_masks(
    images: Sequence[Path], labels: Iterable[Path]
) -> tuple[dict[Path, Path], list[str]]:
    """Find the mask of each image among the labels of its folder.

    Returns:
        Masks by image, and messages about masks without an image and images with
        several masks.
    """
    stems = {(image.parent, image.stem) for image in images}
    exact: _Masks = {}
    folded: _Masks = {}
    lonely: list[Path] = []
    for label in sorted(labels, key=_preference):
        named = _LABEL.fullmatch(label.stem)
        if named is None or named["kind"].lower() != "masklabel":
            continue
        folder, stem = label.parent, named["stem"]
        if named["rest"]:
            lonely.append(label)
            continue
        # A mask in another case belongs to an image that has none in its own case.
        if (folder, stem) in stems:
            exact.setdefault((folder, stem), []).append(label)
        else:
            folded.setdefault((folder, stem.lower()), []).append(label)
    found: dict[Path, Path] = {}
    messages: list[str] = []
    for image in images:
        masks = exact.get((image.parent, image.stem), [])
        masks = masks or folded.get((image.parent, image.stem.lower()), [])
        if masks:
            found[image] = masks[0]
        if len(masks) > 1:
            others = ", ".join(path.name for path in masks[1:])
            messages.append(
                f"{image} has more than one mask. {masks[0].name} is used, and "
                f"{others} is ignored."
            )
    used = {(image.parent, image.stem.lower()) for image in found}
    lonely += [path for key in folded if key not in used for path in folded[key]]
    if lonely:
        what = counted(len(lonely), "mask has", "masks have")
        messages.append(f"{what} no matching image, for example {lonely[0]}.")
    return found, messages


def _preference(label: Path) -> tuple[bool, str]:
    """Return a sort key that prefers the file names of OneTrainer."""
    return not label.name.endswith("-masklabel.png"), str(label)

"""Which files are masks, and of which images: ``cat-masklabel.png`` of ``cat.jpg``.

The names are OneTrainer's. Its own spelling comes first; another case or another image
format is a mask as well. Images that condition a model (``cat-condlabel.png``) are
labels too: they are never learned as images of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from .wording import counted

__all__ = ["LABEL_SUFFIXES", "is_label", "pair_masks"]

LABEL_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif", ".tif", ".tiff", ".gif"}
)
_Masks = dict[tuple[Path, str], list[Path]]

# What copies of a file have behind its name ("a-masklabel (1)", "a-masklabel copy") or
# an ending twice ("a-masklabel.png"): masks, but of which image cannot be told.
_LABEL = re.compile(
    r"(?P<stem>.*)-(?P<kind>masklabel|condlabel)(?P<rest>[\s.(~+].*|[_-]?\d.*)?",
    re.IGNORECASE,
)


def is_label(path: Path) -> bool:
    """Tell masks and conditioning images by their names.

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
        Image -> mask; sentences on masks without an image, and on images with two.
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
        # A mask in another case belongs to an image that has none of its own case.
        if (folder, stem) in stems:
            exact.setdefault((folder, stem), []).append(label)
        else:
            folded.setdefault((folder, stem.lower()), []).append(label)
    found: dict[Path, Path] = {}
    sentences: list[str] = []
    for image in images:
        masks = exact.get((image.parent, image.stem), [])
        masks = masks or folded.get((image.parent, image.stem.lower()), [])
        if masks:
            found[image] = masks[0]
        if len(masks) > 1:
            others = ", ".join(path.name for path in masks[1:])
            sentences.append(
                f"{image} has more than one mask: {masks[0].name} is used, {others} is "
                f"not."
            )
    used = {(image.parent, image.stem.lower()) for image in found}
    lonely += [path for key in folded if key not in used for path in folded[key]]
    if lonely:
        what = counted(len(lonely), "mask belongs", "masks belong")
        sentences.append(f"{what} to no image, for example {lonely[0]}.")
    return found, sentences


def _preference(label: Path) -> tuple[bool, str]:
    """OneTrainer's own spelling before all others."""
    return not label.name.endswith("-masklabel.png"), str(label)

"""Number of times that each image is used per epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from .folder import CaptionedImage

if TYPE_CHECKING:
    from ..config import Concept
    from .entry import Entry

__all__ = ["rates_of", "rates_of_entries"]


def rates_of(images: Sequence[CaptionedImage]) -> list[Fraction]:
    """Return the number of times each image is used per epoch (can be a fraction)."""
    counts: dict[int, int] = {}
    concepts: dict[int, Concept] = {}
    for image in images:
        # By identity, since a folder may be listed twice with equal settings.
        place = id(image.concept)
        counts[place] = counts.get(place, 0) + 1
        concepts[place] = image.concept
    rates = {place: _rate(concepts[place], count) for place, count in counts.items()}
    others = sum(
        rate * counts[place] for place, rate in rates.items() if rate is not None
    )
    sharing = {
        place: (concept.repeats, counts[place])
        for place, concept in concepts.items()
        if rates[place] is None
    }
    known = {place: rate for place, rate in rates.items() if rate is not None}
    known |= _shared(sharing, Fraction(others))
    return [known[id(image.concept)] for image in images]


def _shared(
    folders: Mapping[int, tuple[int, int]], total: Fraction
) -> dict[int, Fraction]:
    """Return the rates of folders of regularization images.

    Together, they are used as often as all other images, as in sd-scripts: every image
    first by its repeats, and the rest by all images equally. If there are too many,
    sd-scripts leaves the last ones out; here, all of them are used less often.

    Args:
        folders: repeats and number of images of each folder.
        total: number of uses of all other images.
    """
    own = sum(repeats * count for repeats, count in folders.values())
    if not total:
        return {place: Fraction(repeats) for place, (repeats, _) in folders.items()}
    if own > total:
        return {place: repeats * total / own for place, (repeats, _) in folders.items()}
    images = sum(count for _, count in folders.values())
    return {
        place: repeats + (total - own) / images
        for place, (repeats, _) in folders.items()
    }


def rates_of_entries(entries: Sequence[Entry]) -> list[Fraction]:
    """Return how often each entry is used per epoch.

    An image with several resolutions has an entry for each of them, which share its
    uses equally.
    """
    images = {id(entry.image): entry.image for entry in entries}
    rates = dict(zip(images, rates_of(list(images.values())), strict=True))
    counts = Counter(id(entry.image) for entry in entries)
    return [rates[id(e.image)] / counts[id(e.image)] for e in entries]


def _rate(concept: Concept, count: int) -> Fraction | None:
    """Return the rate of a concept, or None for regularization images without one."""
    if concept.balancing is not None:
        # Exactly as written: 0.1, not the nearest binary fraction.
        given = Fraction(str(concept.balancing))
        return given if concept.balancing_strategy == "REPEATS" else given / count
    if concept.is_reg and (concept.repeats == 1 or concept.subfolder_repeats):
        return None
    return Fraction(concept.repeats)

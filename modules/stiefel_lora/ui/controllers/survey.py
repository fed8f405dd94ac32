"""Which bucket each picture goes to, and what is wrong with pictures and captions."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from ...config import Concept, TrainConfig
from ...data import Buckets, buckets_of
from ...data.sizes import upright_size
from ...data.unreadable import UnreadablePicture
from .pictures import caption_of, open_shelf

__all__ = ["Problem", "Survey", "survey"]

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Problem:
    """A picture, or a folder, and what is wrong with it."""

    path: Path
    sentence: str


@dataclasses.dataclass
class Survey:
    """What the pictures of some folders are like.

    Attributes:
        pictures: how many can be used.
        buckets: how many pictures are cut to each size (width, height).
        enlarged: how many are smaller than the size they are brought to.
        problems: in the order of the files.
    """

    pictures: int = 0
    buckets: Counter[Size] = dataclasses.field(default_factory=Counter)
    enlarged: int = 0
    problems: list[Problem] = dataclasses.field(default_factory=list)

    @property
    def summary(self) -> str:
        """The survey in a sentence or two."""
        sizes = "1 size" if len(self.buckets) == 1 else f"{len(self.buckets)} sizes"
        parts = [f"{_counted(self.pictures, 'picture')} in {sizes}."]
        if self.enlarged:
            parts.append(f"{_counted(self.enlarged, 'picture')} will be enlarged.")
        count = len(self.problems)
        parts.append(f"{_counted(count, 'problem')}." if count else "No problems.")
        return " ".join(parts)


def survey(
    concepts: Iterable[Concept], config: TrainConfig, wanted: Callable[[], bool]
) -> Survey | None:
    """Look at every picture of some folders; only the heads of the files are read.

    Args:
        concepts: picture folders.
        config: says how pictures are cut.
        wanted: asked before every picture; False ends the survey.

    Returns:
        None when it was not wanted any more.
    """
    found, buckets = Survey(), buckets_of(config)
    for concept in concepts:
        shelf = open_shelf(concept)
        if shelf.message and not shelf.captions:
            found.problems.append(Problem(concept.path, shelf.message))
        for path, caption in shelf.captions.items():
            if not wanted():
                return None
            _look(path, caption, buckets, found)
    return found


def _look(path: Path, caption: str, buckets: Buckets, found: Survey) -> None:
    wrong = "" if caption else caption_of(path)[1]
    if wrong:
        found.problems.append(Problem(path, wrong))
    elif not caption:
        found.problems.append(Problem(path, "no caption"))
    try:
        original = upright_size(path)
        size = buckets.size_for(original)
    except UnreadablePicture as error:
        found.problems.append(Problem(path, f"can not be used: {error}"))
        return
    found.pictures += 1
    found.buckets[size] += 1
    found.enlarged += original[0] < size[0] or original[1] < size[1]


def _counted(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"

"""Survey of the images: buckets, and problems with images and captions."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..._exceptions import ConfigError, DataError
from ...config import TrainConfig
from ...config.epochs import has_epochs
from ...data import buckets_of, scan_all
from ...data.decode_check import DecodeCheck
from ...data.epoch_length import without_epochs
from ...data.folder_report import ScanReport, report_on
from .training_preview import TrainedImage, plan_in

__all__ = ["Problem", "Survey", "by_path", "survey", "survey_question"]

# Settings on which the survey depends, in addition to folders and buckets.
_SURVEYED = (
    "batch_size",
    "epochs",
    "gradient_accumulation_steps",
    "latent_caching",
    "trigger_word",
    "validation_seed",
    "validation_split",
)

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Problem:
    """Problem with an image or folder."""

    path: Path
    message: str
    short: str = ""
    """Summary of a few words, shown below the image."""

    skipped: bool = False
    """Whether the image is not used for training."""


@dataclasses.dataclass
class Survey:
    """Buckets and problems of the images.

    Attributes:
        summary: summary text.
        buckets: number of images per bucket (width, height).
        problems: problems with images and folders.
        images: readable images by bucket.
        aside: training images that validation_split uses for validation.
        undecoded: number of images that were not decoded yet. They may be truncated.
    """

    summary: str = ""
    buckets: Counter[Size] = dataclasses.field(default_factory=Counter)
    problems: list[Problem] = dataclasses.field(default_factory=list)
    images: dict[Size, list[TrainedImage]] = dataclasses.field(default_factory=dict)
    aside: frozenset[Path] = frozenset()
    undecoded: int = 0


def survey(
    config: TrainConfig,
    check: DecodeCheck | None = None,
    tick: Callable[[], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Survey:
    """Survey the training images and the validation images.

    Args:
        config: configuration with the images.
        check: results of decoding images, which are added.
        tick: function that is called after each decoded image. If None, images are not
            decoded.
        stopped: function that returns True to skip the remaining images.
    """
    found, lines = Survey(), []
    check = check or DecodeCheck()

    def decode(sizes: Mapping[Path, tuple[int, int]]) -> dict[Path, str]:
        if tick is not None:
            check.check(sizes, tick, stopped)
        found.undecoded += check.unknown(sizes)
        return check.known(sizes)

    for key, title in (("concepts", ""), ("validation_concepts", "Validation: ")):
        concepts = getattr(config, key)
        if not concepts:
            continue
        try:
            report = report_on(config.model_copy(update={"concepts": concepts}), decode)
        except DataError as error:
            found.problems.append(Problem(concepts[0].path, str(error)))
            lines.append(title + str(error))
            continue
        wrong = dict.fromkeys(report.problems.values())
        lines += [title + line for line in (*wrong, *report.messages())]
        found.buckets.update(report.buckets)
        found.problems += _problems(report)
        plan = plan_in(config, training=key == "concepts")
        for entry in report.entries:
            shown = TrainedImage(entry, plan)
            found.images.setdefault(entry.size, []).append(shown)
    found.aside = _aside(config)
    lines += _length(config)
    found.summary = "\n".join(lines)
    return found


def survey_question(config: TrainConfig) -> tuple[Any, ...]:
    """Return the settings on which the survey depends, to compare them."""
    concepts = (*config.concepts, *config.validation_concepts)
    others = [getattr(config, key) for key in _SURVEYED]
    return (concepts, buckets_of(config), *others)


def _aside(config: TrainConfig) -> frozenset[Path]:
    """Return the training images that are used for validation instead."""
    if not config.validation_split:
        return frozenset()
    try:
        _, validation = scan_all(config)
    # Problems of the folders are listed already.
    except DataError:
        return frozenset()
    return frozenset(image.path for image in validation.images)


def _length(config: TrainConfig) -> list[str]:
    """Return the length in steps of a run that is given in epochs."""
    if not has_epochs(config):
        return []
    try:
        return [without_epochs(config, scan_all(config)[0])[1]]
    # Problems of the folders are listed already.
    except DataError:
        return []
    except ConfigError as error:
        return [str(error)]


def _problems(report: ScanReport) -> list[Problem]:
    return [
        *(
            Problem(path, text, "caption unreadable", skipped=True)
            for path, text in report.problems.items()
        ),
        *(
            Problem(path, f"skipped: {reason}", "skipped", skipped=True)
            for path, reason in report.broken.items()
        ),
        *(Problem(path, "no caption", "no caption") for path in report.without_caption),
        *(
            Problem(path, "listed in metadata.jsonl but missing", "missing")
            for path in report.listed_but_missing
        ),
        *(
            Problem(path, f"duplicate of {first.name}", "duplicate")
            for first, *others in report.duplicates
            for path in others
        ),
    ]


def by_path(problems: Iterable[Problem]) -> dict[Path, Problem]:
    """Return the problems by path, those of the same file joined."""
    found: dict[Path, Problem] = {}
    for new in problems:
        old = found.get(new.path)
        if old is not None:
            new = Problem(
                new.path,
                f"{old.message}; {new.message}",
                old.short if old.skipped else f"{old.short}, {new.short}",
                skipped=old.skipped or new.skipped,
            )
        found[new.path] = new
    return found

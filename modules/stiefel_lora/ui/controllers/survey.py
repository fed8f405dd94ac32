"""Survey of the images: buckets, and problems with images and captions."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

from ..._exceptions import ConfigError, DataError
from ...config import TrainConfig
from ...config.epochs import has_epochs
from ...data import scan_all
from ...data.epoch_length import without_epochs
from ...data.folder_report import ScanReport, report_on

__all__ = ["Problem", "Survey", "survey"]

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Problem:
    """Problem with an image or folder."""

    path: Path
    message: str


@dataclasses.dataclass
class Survey:
    """Buckets and problems of the images.

    Attributes:
        summary: summary text.
        buckets: number of images per bucket (width, height).
        problems: problems with images and folders.
    """

    summary: str = ""
    buckets: Counter[Size] = dataclasses.field(default_factory=Counter)
    problems: list[Problem] = dataclasses.field(default_factory=list)


def survey(config: TrainConfig) -> Survey:
    """Survey the training images and the validation images."""
    found, lines = Survey(), []
    for key, title in (("concepts", ""), ("validation_concepts", "Validation: ")):
        concepts = getattr(config, key)
        if not concepts:
            continue
        try:
            report = report_on(config.model_copy(update={"concepts": concepts}))
        except DataError as error:
            found.problems.append(Problem(concepts[0].path, str(error)))
            lines.append(title + str(error))
            continue
        wrong = dict.fromkeys(report.problems.values())
        lines += [title + line for line in (*wrong, *report.messages())]
        found.buckets.update(report.buckets)
        found.problems += _problems(report)
    lines += _length(config)
    found.summary = "\n".join(lines)
    return found


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
    groups = [
        *report.problems.items(),
        *((path, f"skipped: {reason}") for path, reason in report.broken.items()),
        *((path, "no caption") for path in report.without_caption),
        *(
            (path, "listed in metadata.jsonl but missing")
            for path in report.listed_but_missing
        ),
        *(
            (path, f"duplicate of {first.name}")
            for first, *others in report.duplicates
            for path in others
        ),
    ]
    return [Problem(path, text) for path, text in groups]

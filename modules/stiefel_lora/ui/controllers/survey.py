"""Survey of the images: buckets, and problems of images and captions."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

from ..._exceptions import DataError
from ...config import TrainConfig
from ...data.folder_report import ScanReport, report_on

__all__ = ["Problem", "Survey", "survey"]

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Problem:
    """Problem of an image or folder."""

    path: Path
    message: str


@dataclasses.dataclass
class Survey:
    """Buckets and problems of the images.

    Attributes:
        summary: summary text.
        buckets: number of images per bucket (width, height).
        problems: problems, each of an image or folder.
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
    found.summary = "\n".join(lines)
    return found


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

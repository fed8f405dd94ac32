"""Which bucket each picture goes to, and what is wrong with pictures and captions."""

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
    """A picture, or a folder, and what is wrong with it."""

    path: Path
    sentence: str


@dataclasses.dataclass
class Survey:
    """What the pictures are like.

    Attributes:
        summary: in sentences.
        buckets: how many pictures are cut to each size (width, height).
        problems: one a picture, or a folder.
    """

    summary: str = ""
    buckets: Counter[Size] = dataclasses.field(default_factory=Counter)
    problems: list[Problem] = dataclasses.field(default_factory=list)


def survey(config: TrainConfig) -> Survey:
    """Look at the pictures to learn from, and then at those held out."""
    found, sentences = Survey(), []
    for key, title in (("concepts", ""), ("validation_concepts", "Held out: ")):
        concepts = getattr(config, key)
        if not concepts:
            continue
        try:
            report = report_on(config.model_copy(update={"concepts": concepts}))
        except DataError as error:
            found.problems.append(Problem(concepts[0].path, str(error)))
            sentences.append(title + str(error))
            continue
        wrong = dict.fromkeys(report.problems.values())
        sentences += [title + sentence for sentence in (*wrong, *report.messages())]
        found.buckets.update(report.buckets)
        found.problems += _problems(report)
    found.summary = "\n".join(sentences)
    return found


def _problems(report: ScanReport) -> list[Problem]:
    groups = [
        *report.problems.items(),
        *((path, f"is left out: {reason}") for path, reason in report.broken.items()),
        *((path, "no caption") for path in report.without_caption),
        *(
            (path, "is in metadata.jsonl and not there")
            for path in report.listed_but_missing
        ),
        *(
            (path, f"is the same as {first.name}")
            for first, *others in report.duplicates
            for path in others
        ),
    ]
    return [Problem(path, sentence) for path, sentence in groups]

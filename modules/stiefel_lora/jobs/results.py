"""Results of jobs, read from their run folders."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config.dump import flat
from ..metrics.tags import AVERAGE_LOSS, MEAN_RANK
from ..runs.events import current_events
from .evidence import end_of
from .job import Job, JobState
from .setting_differences import different_keys

__all__ = ["CURVES", "Curve", "Result", "collect"]

Curve = list[tuple[int, float]]
"""Pairs of step and value."""

CURVES = {
    "validation loss": "validation/loss",
    "training loss": AVERAGE_LOSS,
    "effective rank": MEAN_RANK,
}
"""Names of the values in the events of a run, by the titles of the curves."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """Results of a job."""

    job: Job
    differs: dict[str, Any]
    """Values of the settings that differ between jobs."""

    held_out_before: float | None
    held_out_loss: float | None
    """Final validation loss, or None if it was not measured."""

    effective_rank: float | None
    """Final effective rank, averaged over all blocks."""

    lowest_effective_rank: float | None
    seconds: float
    files: tuple[Path, ...]
    """LoRA files."""

    curves: dict[str, Curve]
    samples: dict[int, list[Path]]
    """Sample images by step."""


def collect(jobs: Sequence[Job]) -> list[Result]:
    """Read the results of jobs from their run folders."""
    keys = different_keys([job.config for job in jobs])
    swept = dict.fromkeys(key for job in jobs for key in job.changes)
    ordered = [*(k for k in swept if k in keys), *(k for k in keys if k not in swept)]
    return [_result(job, ordered) for job in jobs]


def _result(job: Job, keys: Sequence[str]) -> Result:
    settings = flat(job.config)
    end = end_of(job.folder) if job.state is JobState.DONE else None
    end = end or {}
    curves, samples = _history(job)
    return Result(
        job=job,
        differs={key: settings[key] for key in keys if key in settings},
        held_out_before=end.get("validation_before"),
        held_out_loss=end.get("validation_after"),
        effective_rank=end.get("mean_effective_rank"),
        lowest_effective_rank=end.get("lowest_effective_rank"),
        # A job that an earlier command finished has no start time in this queue.
        seconds=job.seconds or end.get("wall_seconds", 0.0),
        # Folders may have been moved: use the file names, not the recorded paths.
        files=tuple(job.folder.lora / Path(f).name for f in end.get("lora_files", ())),
        curves=curves,
        samples=samples,
    )


def _history(job: Job) -> tuple[dict[str, Curve], dict[int, list[Path]]]:
    """Read the curves by title, and the sample images by step."""
    points: dict[str, dict[int, float]] = {title: {} for title in CURVES}
    samples: dict[int, list[Path]] = {}
    for event in current_events(job.folder.events_file):
        step, values = event["step"], event["values"]
        for title, tag in CURVES.items():
            if isinstance(values.get(tag), int | float):
                points[title][step] = values[tag]
        if event["type"] == "sample":
            samples[step] = [job.folder.samples / name for name in values["files"]]
    return {title: sorted(found.items()) for title, found in points.items()}, samples

"""What became of a job whose process ended: the next state and a sentence."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from .evidence import is_finished, newest_step
from .job import Job, JobState

__all__ = ["MOST_DEATHS", "Verdict", "last_words", "verdict"]

MOST_DEATHS = 3
"""A job that dies this often in a row without a new checkpoint is given up."""

_TAIL_BYTES = 4000


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The state that follows, why, and how often the job died in a row by now."""

    state: JobState
    message: str = ""
    deaths: int = 0
    saved_step: int = 0


def verdict(job: Job, code: int | None, log: Path) -> Verdict:
    """Judge an attempt by its exit code; None or negative means that it died.

    Args:
        job: as it was while it ran.
        code: 0 done, 1 failure, 2 bad input, 130 interrupted and saved.
        log: where its output went; failures end it with their sentence.
    """
    # A process may be killed between its last word and its exit.
    if code == 0 or is_finished(job.folder, job.steps):
        return Verdict(JobState.DONE)
    if code == 130 or (job.wish and _died(code)):
        return _stopped(job)
    if _died(code):
        return _death(job, code)
    return Verdict(JobState.FAILED, last_words(log) or f"It ended with code {code}.")


def _died(code: int | None) -> bool:
    # Windows gives back large numbers for processes that crashed.
    return code is None or code not in (0, 1, 2, 130)


def _stopped(job: Job) -> Verdict:
    if job.wish == "cancel":
        return Verdict(JobState.CANCELLED, "Cancelled by order.")
    if job.wish == "pause":
        return Verdict(JobState.PAUSED, "Paused by order.")
    return Verdict(JobState.WAITING, "Stopped and saved.")


def _death(job: Job, code: int | None) -> Verdict:
    saved = newest_step(job.folder)
    deaths = 1 if saved > job.saved_step else job.deaths + 1
    cause = f" by signal {-code}" if code is not None and code < 0 else ""
    died = f"Its process was killed{cause} (out of memory, or from outside)"
    if deaths >= MOST_DEATHS:
        message = (
            f"{died} {deaths} times without getting further; see its log, then retry."
        )
        return Verdict(JobState.FAILED, message, deaths, saved)
    goes_on = f"goes on from step {saved}" if saved else "starts again"
    return Verdict(JobState.WAITING, f"{died}; it {goes_on}.", deaths, saved)


def last_words(log: Path) -> str:
    """The sentence at the end of a log; lines set in belong to the one before them."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    words: list[str] = []
    for line in reversed(lines):
        words.insert(0, line.strip())
        if not line.startswith("  "):
            break
    return " ".join(words)

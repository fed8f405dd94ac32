"""Next state and message of a job whose process has ended."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from .evidence import is_finished, newest_step
from .job import Job, JobState

__all__ = ["MOST_DEATHS", "Verdict", "last_message", "verdict"]

MOST_DEATHS = 3
"""Number of consecutive crashes without a new checkpoint after which a job fails."""

_TAIL_BYTES = 4000


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Next state, message, and number of consecutive crashes."""

    state: JobState
    message: str = ""
    deaths: int = 0
    saved_step: int = 0


def verdict(job: Job, code: int | None, log: Path) -> Verdict:
    """Determine the next state of a job from the exit code of its process.

    Args:
        job: job before its process ended.
        code: exit code: 0 for success, 1 for failure, 2 for invalid input, and 130 if
            the training was stopped and saved. None or a negative value means a crash.
        log: log file of the job. Its last line is the error message.
    """
    # A process may be killed between its final event and its exit.
    if code == 0 or is_finished(job.folder, job.steps):
        return Verdict(JobState.DONE)
    # A process that is killed after a command (cancel --now, a shutdown) has done what
    # was requested, and does not count as crashed.
    if code == 130 or (job.wish and _died(code)):
        return _stopped(job)
    if _died(code):
        return _death(job, code)
    return Verdict(
        JobState.FAILED, last_message(log) or f"The process exited with code {code}."
    )


def _died(code: int | None) -> bool:
    # Windows returns large numbers for processes that crashed.
    return code is None or code not in (0, 1, 2, 130)


def _stopped(job: Job) -> Verdict:
    if job.wish == "cancel":
        return Verdict(JobState.CANCELLED, "Cancelled by the user.")
    if job.wish == "pause":
        return Verdict(JobState.PAUSED, "Paused by the user.")
    return Verdict(JobState.WAITING, "Stopped and saved.")


def _death(job: Job, code: int | None) -> Verdict:
    saved = newest_step(job.folder)
    # A new checkpoint since the last crash is progress: a long run may crash often.
    deaths = 1 if saved > job.saved_step else job.deaths + 1
    cause = f" by signal {-code}" if code is not None and code < 0 else ""
    died = f"The process was killed{cause} (out of memory, or by the system)"
    if deaths >= MOST_DEATHS:
        message = (
            f"{died} {deaths} times without a new checkpoint. Check its log, then "
            "retry."
        )
        return Verdict(JobState.FAILED, message, deaths, saved)
    outlook = f"resuming from step {saved}" if saved else "starting again"
    return Verdict(JobState.WAITING, f"{died}; {outlook}.", deaths, saved)


def last_message(log: Path) -> str:
    """Return the last message of a log, including indented lines after it."""
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

"""Job: a training with its settings and state."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ..runs.run_folder import RunFolder

__all__ = ["OVER", "Job", "JobState", "PendingAction", "job_from"]

PendingAction = Literal["pause", "cancel"]


class JobState(str, enum.Enum):
    """State of a job. The values are those in the database."""

    WAITING = "waiting"
    """Waiting to be started or resumed by a runner."""

    RUNNING = "running"
    PAUSED = "paused"
    """Paused by the user until it is resumed."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


OVER = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """Job of a queue at the time of reading."""

    id: int
    run_dir: Path
    """Run folder of the job."""

    config: dict[str, Any]
    """All settings. Changes of the config file after adding the job have no effect."""

    source: str
    """Config file or preset that the settings came from."""

    changes: dict[str, Any]
    """Settings from sweeps, by dotted key."""

    state: JobState
    wish: PendingAction | None
    """Pending command to the running job (pause or cancel), or None."""

    device: str
    """Device of the last attempt. Empty if set by the configuration."""

    attempt: int
    """Number of attempts."""

    deaths: int
    """Number of consecutive crashes without a new checkpoint."""

    pid: int | None
    pid_started: float | None
    """Start time of the process in seconds since 1970, to detect reused process IDs."""

    exit_code: int | None
    message: str
    """Error message or last status message. Empty if there is none."""

    added: float
    started: float | None
    """Start time of the last attempt."""

    seconds: float
    """Total duration of all finished attempts in seconds."""

    saved_step: int
    """Step of the latest checkpoint at the last crash."""

    @property
    def name(self) -> str:
        """Name of the run folder and the LoRA file."""
        return self.run_dir.name

    @property
    def folder(self) -> RunFolder:
        """Paths inside ``run_dir``."""
        return RunFolder(self.run_dir)

    @property
    def steps(self) -> int:
        """Total number of optimizer steps."""
        return self.config["steps"]


def job_from(values: Mapping[str, Any]) -> Job:
    """Build a job from its fields, with its path and state as text."""
    fields: dict[str, Any] = dict(values)
    fields["run_dir"] = Path(fields["run_dir"])
    fields["state"] = JobState(fields["state"])
    return Job(**fields)

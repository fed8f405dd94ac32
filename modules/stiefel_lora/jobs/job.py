"""One job: a training with its settings, and where it stands."""

from __future__ import annotations

import dataclasses
import enum
from pathlib import Path
from typing import Any, Literal

from ..runs.run_folder import RunFolder

__all__ = ["OVER", "Job", "JobState", "PendingAction"]

PendingAction = Literal["pause", "cancel"]


class JobState(str, enum.Enum):
    """Where a job stands; the values are those in the database."""

    WAITING = "waiting"
    """A runner starts it in its turn, from its checkpoint where it has one."""

    RUNNING = "running"
    PAUSED = "paused"
    """Held back, by order, until it is started again."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


OVER = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A row of the queue as it was when read."""

    id: int
    run_dir: Path
    """Folder that the training writes, its own alone."""

    config: dict[str, Any]
    """All settings, resolved when the job was added: later edits change nothing."""

    source: str
    """Config file or preset that the settings came from."""

    changes: dict[str, Any]
    """What a sweep set, by dotted key."""

    state: JobState
    wish: PendingAction | None
    """A command to the running job that has not taken effect; a column of the table."""

    device: str
    """Where it runs or ran last; empty where the configuration decides."""

    attempt: int
    """How often it was started."""

    deaths: int
    """How often in a row it died without a word since its last new checkpoint."""

    pid: int | None
    pid_started: float | None
    """When that process began, seconds since 1970; tells it from a later one."""

    exit_code: int | None
    message: str
    """Why it failed, or what happened to it last; empty when all is well."""

    added: float
    started: float | None
    """When the last attempt began."""

    seconds: float
    """Time of all finished attempts together."""

    saved_step: int
    """Step of the newest checkpoint when it last died."""

    @property
    def name(self) -> str:
        """Name of the run's folder and of its LoRA file."""
        return self.run_dir.name

    @property
    def folder(self) -> RunFolder:
        """Paths inside ``run_dir``."""
        return RunFolder(self.run_dir)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.config["steps"]

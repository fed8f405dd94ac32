"""Keeps the checkpoints of a run: writes them, finds the last good one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoint import list_checkpoints, save_checkpoint
from .finite import check_blocks, check_finite
from .machine import Machine
from .run_folder import RunFolder
from .sinks import MetricSink
from .snapshot import take_snapshot

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["CheckpointKeeper"]


class CheckpointKeeper:
    """Saves a run's state, unless it is not finite.

    Args:
        config: how many checkpoints stay.
        machine: whose state it is.
        folder: the run's folder.
        sink: is told of every checkpoint.
        identity: what this run is.
    """

    def __init__(
        self,
        config: TrainConfig,
        machine: Machine,
        folder: RunFolder,
        sink: MetricSink,
        identity: dict[str, Any],
    ) -> None:
        self._config = config
        self._machine = machine
        self._folder = folder.checkpoints
        self._sink = sink
        self._identity = identity
        self.latest: Path | None = None
        """The latest one that this process wrote or went on from."""

    @property
    def latest_step(self) -> int | None:
        """Step of ``latest``."""
        if self.latest is None:
            return None
        return int(self.latest.name.removeprefix("step-"))

    def save(self, step: int, position: int, figures: dict[str, Any]) -> Path:
        """Write a checkpoint of the state after ``step``.

        Args:
            step: optimizer steps done.
            position: pictures taken from the data order.
            figures: the loop's own.

        Raises:
            NonFiniteError: there is nothing good to save.
            OutputError: the disk is full; older checkpoints stay.
        """
        check_blocks(self._machine.adapters, step=step, last=self._last_good())
        state = take_snapshot(self._machine, step, position, self._identity, figures)
        self.latest = save_checkpoint(
            self._folder, state, self._config.keep_checkpoints
        )
        self._sink.event("checkpoint", step, {"path": self.latest})
        return self.latest

    def check(self, value: float, what: str, step: int) -> None:
        """Stop a run whose loss or gradient norm is not a number.

        Raises:
            NonFiniteError: ``value`` is NaN or infinite; names the last good one.
        """
        adapters, last = self._machine.adapters, self._last_good()
        check_finite(value, what, step=step, adapters=adapters, last=last)

    def _last_good(self) -> Path | None:
        kept = list_checkpoints(self._folder)
        return kept[-1] if kept else None

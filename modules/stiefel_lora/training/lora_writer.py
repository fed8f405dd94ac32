"""Write the LoRA of a run as it is now: averaged, and as it is trained if asked."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..adapters import base_lengths
from ..files import LoraWeights, compress
from ..runs.progress import say
from ..runs.run_folder import RunFolder
from .logging.sinks import MetricSink
from .output import lora_weights, write_lora_files
from .run_notes import run_notes
from .state import Machine

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["BEST", "LoraWriter"]

WITHOUT_AVERAGE = "_without_ema"
BEST = "-best"


class LoraWriter:
    """Writes files named after the run into its folder.

    Args:
        config: formats, precision and what goes into the metadata.
        machine: whose LoRA it is.
        folder: of the run.
        sink: is told of every file.
        started: when the run began.
    """

    def __init__(
        self,
        config: TrainConfig,
        machine: Machine,
        folder: RunFolder,
        sink: MetricSink,
        started: datetime.datetime,
    ) -> None:
        self._config = config
        self._machine = machine
        self._folder = folder
        self._sink = sink
        self._started = started

    @property
    def best_stem(self) -> str:
        """Name, without ending, of the file with the lowest validation loss."""
        return f"{self._folder.root.name}{BEST}"

    def write(
        self, step: int, mark: str = "", extra: Mapping[str, Any] | None = None
    ) -> list[Path]:
        """Write ``RUN<mark>`` in every format; with EMA that is the average.

        Args:
            step: optimizer steps done.
            mark: what the names have behind that of the run, as ``-step-100``.
            extra: figures for the metadata.

        Raises:
            OutputError: a file can not be written.
        """
        stem = f"{self._folder.root.name}{mark}"
        with self._machine.averaged():
            paths = self._write(stem, step, extra or {})
        if self._machine.average is not None and self._config.save_without_ema:
            with self._machine.evaluated():
                paths += self._write(stem + WITHOUT_AVERAGE, step, {})
        self._sink.event("lora", step, {"files": [path.name for path in paths]})
        return paths

    def _write(self, stem: str, step: int, extra: Mapping[str, Any]) -> list[Path]:
        machine = self._machine
        return write_lora_files(
            self._folder.lora,
            stem,
            self._weights(),
            self._config,
            step=step,
            prediction_type=machine.family.prediction_type,
            notes=run_notes(self._config, machine.pictures),
            started=self._started,
            extra=dict(extra),
            base_lengths=self._base_lengths,
        )

    def _base_lengths(self, name: str) -> Tensor:
        """Of the rows of a layer that has no LoRA, by its name in files."""
        machine = self._machine
        path = name if machine.component is None else name.partition(".")[2]
        return base_lengths(machine.model, path).cpu()

    def _weights(self) -> LoraWeights:
        """What the model moves by; a start taken away costs rank, not exactness."""
        machine, config = self._machine, self._config
        model, component = machine.model, machine.component
        if config.lora_init != "loi":
            return lora_weights(model, component, machine.pairs)
        weights = lora_weights(model, component, machine.moves().pairs)
        weights, lost = compress(weights, config.resolved_file_rank)
        if config.resolved_file_rank < 2 * config.lora_rank:
            say(
                f"The file holds rank {config.resolved_file_rank} and lost "
                f"{lost:.2%} of the update (Frobenius norm)."
            )
        return weights

"""Logging to TensorBoard event files."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._exceptions import reason_of
from ...metrics.tags import (
    AVERAGE_LOSS,
    LOSS_LABEL,
    LOWEST_RANK,
    MEAN_RANK,
    SHARE_OF_RANK,
    VALIDATION_BIN,
)
from ...runs.progress import say

if TYPE_CHECKING:
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["OVERVIEW", "TensorBoardSink"]

_AXIS = {"share_axis/0": 0.0, "share_axis/1": 1.0}
"""Values at the ends of the axis of ``SHARE_OF_RANK``: TensorBoard fits the axis of
a chart to its values. They are written with every value, since it ignores rare ones."""

OVERVIEW = {
    "Training": {
        "loss": ["Multiline", [AVERAGE_LOSS, "validation/loss"]],
        "share of the rank": ["Multiline", [SHARE_OF_RANK, *_AXIS]],
        "effective rank": ["Multiline", [MEAN_RANK, LOWEST_RANK]],
        "learning rate": ["Multiline", ["lr/.*"]],
        "validation loss by timesteps": ["Multiline", [f"{VALIDATION_BIN}.*"]],
    }
}
"""Charts of the Custom Scalars tab: regular expressions of tags.

The Scalars tab has a chart for every block of the model, so the loss is far down.
"""

_RESULTS = {
    "validation/loss": "validation loss",
    AVERAGE_LOSS: LOSS_LABEL,
    MEAN_RANK: "effective rank, mean",
    LOWEST_RANK: "effective rank, lowest",
}
"""Values of the HParams tab with their titles."""


class TensorBoardSink:
    """Write scalars, histograms and images to TensorBoard event files.

    If the disk is full or the folder cannot be written, a message is printed once, and
    training continues. All values are also written to ``events.jsonl``.

    Args:
        folder: folder of the event files.
        resume_step: step from which the run is resumed. Values of an earlier process
            for later steps are hidden.
        name: name of the run in the HParams tab.
        hparams: its settings there.
    """

    def __init__(
        self,
        folder: Path,
        resume_step: int | None = None,
        name: str = "",
        hparams: Mapping[str, bool | float | str] = {},
    ) -> None:
        # Importing it takes seconds, so it is deferred until the first step.
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        self._writer: SummaryWriter | None = None
        purge = None if resume_step is None else resume_step + 1
        # The writer thread keeps its error for the next call, which reports it.
        self._previous_hook = threading.excepthook
        self._hook = self._in_thread
        threading.excepthook = self._hook
        with self._writing():
            self._writer = SummaryWriter(str(folder), purge_step=purge)
            self._writer.add_custom_scalars(OVERVIEW)
            if hparams:
                self._write_hparams(name, hparams)

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Do nothing, because TensorBoard has no events."""

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Write one curve per tag, all of them in one event of the file."""
        from torch.utils.tensorboard.summary import scalar

        # A rank event has two curves a block. As separate events, each of them would be
        # serialized, checked and passed to the writer thread.
        if SHARE_OF_RANK in values:
            values = {**values, **_AXIS}
        parts = [scalar(tag, value) for tag, value in values.items()]
        for part in parts[1:]:
            parts[0].MergeFrom(part)
        with self._writing():
            if self._writer is not None and parts:
                writer: Any = self._writer._get_file_writer()
                writer.add_summary(parts[0], step)

    def histogram(self, tag: str, step: int, values: Sequence[float]) -> None:
        """Write a histogram. NaN is left out."""
        numbers = np.asarray(values, dtype=np.float64)
        numbers = numbers[np.isfinite(numbers)]
        if numbers.size and self._writer is not None:
            with self._writing():
                self._writer.add_histogram(tag, numbers, step)
                self._writer.flush()

    def image(self, tag: str, step: int, image: Image.Image) -> None:
        """Write an image."""
        pixels = np.asarray(image.convert("RGB"))
        if self._writer is not None:
            with self._writing():
                self._writer.add_image(tag, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Write everything that is buffered."""
        if self._writer is not None:
            with self._writing():
                self._writer.close()
        if threading.excepthook is self._hook:
            threading.excepthook = self._previous_hook

    def _write_hparams(
        self, name: str, hparams: Mapping[str, bool | float | str]
    ) -> None:
        # SummaryWriter.add_hparams would write them as a second run.
        from tensorboard.plugins.hparams import summary_v2

        columns = [summary_v2.HParam(key) for key in hparams]
        results = [
            summary_v2.Metric(tag, display_name=title)
            for tag, title in _RESULTS.items()
        ]
        writer: Any = self._writer
        files = writer._get_file_writer()
        files.add_summary(summary_v2.hparams_config_pb(columns, results))
        files.add_summary(summary_v2.hparams_pb(dict(hparams), trial_id=name))

    def _in_thread(self, args: threading.ExceptHookArgs) -> None:
        """Suppress the traceback of an error that is reported by ``_writing``."""
        of_writer = type(args.thread).__module__.startswith("tensorboard.")
        if not (of_writer and issubclass(args.exc_type, OSError)):
            self._previous_hook(args)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Stop writing after an OSError, and print a message once.

        Files are written by a thread, whose errors are raised in a later call.
        """
        try:
            yield
        except OSError as error:
            writer, self._writer = self._writer, None
            say(
                f"{self._folder} is not writable ({reason_of(error)}). The rest of "
                "this run is not shown in TensorBoard, but it is logged to "
                "events.jsonl. Free disk space, then resume."
            )
            # The writer thread ends; the same error again is not reported.
            with contextlib.suppress(OSError):
                if writer is not None:
                    writer.close()

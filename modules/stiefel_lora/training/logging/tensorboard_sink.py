"""TensorBoard event files."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._exceptions import reason_of
from ...runs.progress import say

if TYPE_CHECKING:
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardSink"]


class TensorBoardSink:
    """Scalars, histograms and images under the tags they come with.

    A disk that is full, or a folder that cannot be written, ends the curves with one
    sentence, not the run: all numbers are in ``events.jsonl`` as well.

    Args:
        folder: where event files go.
        resume_step: step that a resumed run goes on from; what an earlier process
            wrote for later steps is hidden.
    """

    def __init__(self, folder: Path, resume_step: int | None = None) -> None:
        # Importing it takes seconds, and nothing before the first step needs it.
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        self._writer: SummaryWriter | None = None
        purge = None if resume_step is None else resume_step + 1
        # The thread that writes keeps its error for the next call, which reports it.
        self._previous_hook = threading.excepthook
        self._hook = self._in_thread
        threading.excepthook = self._hook
        with self._writing():
            self._writer = SummaryWriter(str(folder), purge_step=purge)

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Nothing: TensorBoard shows curves, not happenings."""

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """One curve a tag."""
        with self._writing():
            for tag, value in values.items():
                if self._writer is not None:
                    self._writer.add_scalar(tag, value, step)

    def histogram(self, tag: str, step: int, values: Sequence[float]) -> None:
        """Show a distribution over time; NaN has no place in it."""
        numbers = np.asarray(values, dtype=np.float64)
        numbers = numbers[np.isfinite(numbers)]
        if numbers.size and self._writer is not None:
            with self._writing():
                self._writer.add_histogram(tag, numbers, step)
                self._writer.flush()

    def image(self, tag: str, step: int, image: Image.Image) -> None:
        """Show an image in the tab of images."""
        pixels = np.asarray(image.convert("RGB"))
        if self._writer is not None:
            with self._writing():
                self._writer.add_image(tag, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is still held back."""
        if self._writer is not None:
            with self._writing():
                self._writer.close()
        if threading.excepthook is self._hook:
            threading.excepthook = self._previous_hook

    def _in_thread(self, args: threading.ExceptHookArgs) -> None:
        """Leave out the traceback of an error that ``_writing`` reports."""
        of_writer = type(args.thread).__module__.startswith("tensorboard.")
        if not (of_writer and issubclass(args.exc_type, OSError)):
            self._previous_hook(args)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Stop writing, once said, where the operating system refuses it.

        Files are written by a thread, whose error appears in a later call.
        """
        try:
            yield
        except OSError as error:
            writer, self._writer = self._writer, None
            say(
                f"{self._folder} cannot be written ({reason_of(error)}): TensorBoard "
                f"shows nothing of the rest of this run, whose numbers are in "
                f"events.jsonl. Make room, then resume."
            )
            # Its thread ends; the same error again is no news.
            with contextlib.suppress(OSError):
                if writer is not None:
                    writer.close()

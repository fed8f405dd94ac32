"""TensorBoard event files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["TensorBoardSink"]


class TensorBoardSink:
    """Scalars, histograms and pictures under the tags they come with.

    Args:
        folder: where event files go.
        resume_step: step that a resumed run goes on from; what an earlier process
            wrote for later steps is hidden.
    """

    def __init__(self, folder: Path, resume_step: int | None = None) -> None:
        # Importing it takes seconds, and nothing before the first step needs it.
        from torch.utils.tensorboard import SummaryWriter

        purge = None if resume_step is None else resume_step + 1
        self._writer = SummaryWriter(str(folder), purge_step=purge)

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Nothing: TensorBoard shows curves, not happenings."""

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """One curve a tag."""
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)

    def histogram(self, tag: str, step: int, values: Sequence[float]) -> None:
        """Show a distribution over time; NaN has no place in it."""
        numbers = np.asarray(values, dtype=np.float64)
        numbers = numbers[np.isfinite(numbers)]
        if numbers.size:
            self._writer.add_histogram(tag, numbers, step)
            self._writer.flush()

    def image(self, tag: str, step: int, image: Image.Image) -> None:
        """Show a picture in the tab of images."""
        pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image(tag, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is still held back."""
        self._writer.close()

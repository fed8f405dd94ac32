"""Spectrum of a LoRA file: a row per layer, a column per singular value."""

from __future__ import annotations

from ..controllers.lora_files import LoraEntry
from .image_plot import ImagePlot

__all__ = ["Spectrum"]

_EMPTY = "Add a LoRA file to see the singular values of its layers."
_HINT = (
    "Singular values of each layer, largest first, from black (1/1000 of the largest "
    "in the file) to bright. Hover for values."
)


class Spectrum(ImagePlot):
    """Heat map of the singular values of one file."""

    def __init__(self) -> None:
        super().__init__("Spectrum of each layer", "inferno", _EMPTY)
        self._entry: LoraEntry | None = None
        self.show_entry(None)

    def show_entry(self, entry: LoraEntry | None) -> None:
        """Draw a file; None clears the plot."""
        self._entry = entry
        self.show_axes(entry is not None)
        self.label.setText(_EMPTY if entry is None else _HINT)
        if entry is None:
            self.image.clear()
            return
        self.draw(entry.levels, 1)
        columns, rows = entry.levels.shape
        self.name_columns([str(i + 1) for i in range(columns)], 9)
        self.name_sections(entry.sections, rows / 24)

    def hovered(self, column: int, row: int) -> None:
        """Return the text for a singular value."""
        if self._entry is not None:
            self.label.setText(self._entry.describe(column, row) or _HINT)

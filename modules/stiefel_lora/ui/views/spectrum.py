"""The spectrum of a LoRA file: a row for each layer, a column for each value."""

from __future__ import annotations

from ..controllers.lora_files import LoraEntry
from .image_plot import ImagePlot

__all__ = ["Spectrum"]

_EMPTY = "Add a LoRA file to see its singular values, layer by layer."
_HINT = (
    "Singular values of each layer, largest first: bright is the largest of the file, "
    "black 1/1000 of it. Point at one for its number."
)


class Spectrum(ImagePlot):
    """Heat map of one file."""

    def __init__(self) -> None:
        super().__init__("Spectrum of each layer", "inferno", _EMPTY)
        self._entry: LoraEntry | None = None
        self.show_entry(None)

    def show_entry(self, entry: LoraEntry | None) -> None:
        """Draw a file, or nothing."""
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
        """Give the number of a singular value."""
        if self._entry is not None:
            self.label.setText(self._entry.describe(column, row) or _HINT)

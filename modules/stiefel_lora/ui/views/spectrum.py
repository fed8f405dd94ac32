"""Plot of the singular values of a LoRA file, with a row per layer."""

from __future__ import annotations

from ..controllers.lora_files import LoraEntry
from .image_plot import ImagePlot

__all__ = ["Spectrum"]

_EMPTY = "Add a LoRA file to see the singular values of its layers."
_HINT = (
    "Rows are layers, columns are singular values in descending order. Black is "
    "1/1000 of the largest value in the file or less. Hover for values."
)
_BAR = (
    "Singular value / largest",
    [(0, "1/1000"), (1 / 3, "1/100"), (2 / 3, "1/10"), (1, "1")],
)


class Spectrum(ImagePlot):
    """Heat map of the singular values of a LoRA file."""

    def __init__(self) -> None:
        super().__init__(
            "Singular values of each layer",
            ("Layer", "Singular value"),
            "inferno",
            _BAR,
            _EMPTY,
        )
        self._entry: LoraEntry | None = None
        self.show_entry(None)

    def show_entry(self, entry: LoraEntry | None) -> None:
        """Plot a LoRA file. None clears the plot."""
        self._entry = entry
        self.show_axes(entry is not None)
        self.label.setText(_EMPTY if entry is None else _HINT)
        if entry is None:
            self.image.clear()
            return
        self.draw(entry.levels, 1)
        columns, rows = entry.levels.shape
        self.name_columns([str(i + 1) for i in range(columns)], 9)
        self.name_sections(entry.sections, rows)

    def hovered(self, column: int, row: int) -> None:
        """Return the text for the singular value below the mouse."""
        if self._entry is not None:
            self.label.setText(self._entry.describe(column, row) or _HINT)

"""Plot of the singular values of a LoRA file, with a row per layer."""

from __future__ import annotations

from ..controllers.lora_files import (
    SINGULAR_VALUES,
    SPECTRUM_BAR,
    SPECTRUM_HINT,
    LoraEntry,
)
from .image_plot import ImagePlot

__all__ = ["Spectrum"]

_EMPTY = "Add a LoRA file to see the singular values of its layers."


class Spectrum(ImagePlot):
    """Heat map of the singular values of a LoRA file."""

    def __init__(self) -> None:
        super().__init__(
            SINGULAR_VALUES,
            ("Layer", "Singular value"),
            "inferno",
            SPECTRUM_BAR,
            _EMPTY,
        )
        self._entry: LoraEntry | None = None
        self.show_entry(None)

    def show_entry(self, entry: LoraEntry | None) -> None:
        """Plot a LoRA file. None clears the plot."""
        self._entry = entry
        self.show_axes(entry is not None)
        self.label.setText(_EMPTY if entry is None else SPECTRUM_HINT)
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
            self.label.setText(self._entry.describe(column, row) or SPECTRUM_HINT)

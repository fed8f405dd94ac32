"""Heat map of the effective rank of every block during training."""

from __future__ import annotations

from ..controllers.rank_table import BAR, HINT, NO_RANKS, TITLE, RankTable
from .image_plot import ImagePlot

__all__ = ["HeatMap"]


class HeatMap(ImagePlot):
    """Heat map with a column per measurement. Hovering shows the values."""

    def __init__(self) -> None:
        super().__init__(TITLE, ("Block", "Step"), "viridis", BAR, NO_RANKS)
        self._table = RankTable()
        self._shown = (-1, -1)
        self.show_axes(False)

    def show_table(self, table: RankTable) -> None:
        """Draw the values of a run if they have changed."""
        key = (len(table.steps), table.steps[-1] if table.steps else -1)
        if table is self._table and key == self._shown:
            return
        fresh = table is not self._table or self._shown[0] <= 0
        self._table, self._shown = table, key
        if not table.steps:
            self.image.clear()
            self.show_axes(False)
            self.label.setText(NO_RANKS)
            return
        self.draw(table.shares, 255)
        self.name_columns([str(step) for step in table.steps], 6)
        if fresh:
            self.show_axes(True)
            self.label.setText(HINT)
            self.name_sections(table.sections(), len(table.blocks))

    def describe(self, column: int, row: int) -> None:
        """Show the values of a block in a measurement."""
        self.label.setText(self._table.describe(column, row))

    def hovered(self, column: int, row: int) -> None:
        """Return the values of the block below the mouse, or a hint."""
        if not self._table.steps:
            return
        columns, rows = self._table.shares.shape
        if 0 <= column < columns and 0 <= row < rows:
            self.describe(column, row)
        else:
            self.label.setText(HINT)

"""Plot of a matrix as an image in the browser, with a line of text below it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from nicegui import events, ui
from numpy.typing import NDArray

__all__ = ["INFERNO", "VIRIDIS", "MatrixPlot"]

# Colors at equal distances, three bytes each. The browser interpolates between them.
VIRIDIS = (
    "44015448186a472d7b4240863b528b33638d2c728e26828e21918c1fa08828ae803fbc735ec96284d4"
    "4baddc30d8e219fde725"
)
INFERNO = (
    "0000040b0724210c4a3d096557106e71196e8a226aa32c61bc3754d24644e45a31f1731df98e09fcac"
    "11f9cb35f2ea69fcffa4"
)

Labels = Iterable[tuple[int, str]]


class MatrixPlot(ui.element, component="matrix_plot.js"):
    """Plot of a matrix whose columns are appended.

    Args:
        title: title of the plot, also for screen readers.
        axes: labels of the rows and of the columns.
        colors: colors of the values.
        bar: label of the color bar, and its ticks from 0 to 1.
        ready: function that is called when the browser can draw.
        hovered: function that is called with the column and row below the pointer, or
            (-1, -1).
    """

    def __init__(
        self,
        title: str,
        axes: tuple[str, str],
        colors: str,
        bar: tuple[str, Sequence[tuple[float, str]]],
        *,
        ready: Callable[[], None],
        hovered: Callable[[int, int], None],
    ) -> None:
        super().__init__()
        self.props["title"] = title
        self.props["axes"] = list(axes)
        self.props["colors"] = colors
        self.props["bar"] = bar[0]
        self.props["ticks"] = [list(tick) for tick in bar[1]]
        self.is_ready = False
        """Whether the browser can draw."""

        def prepared() -> None:
            self.is_ready = True
            ready()

        def moved(event: events.GenericEventArguments) -> None:
            hovered(int(event.args["column"]), int(event.args["row"]))

        self.on("ready", prepared, [])
        self.on("cell", moved)

    def load(
        self, columns: NDArray[np.uint8], sections: Labels, labels: Labels
    ) -> None:
        """Replace the matrix.

        Args:
            columns: values from 0 to 255, shape (columns, rows).
            sections: first row and name of each section.
            labels: column and text of each label below the plot.
        """
        found = {
            "rows": columns.shape[1],
            "sections": [list(section) for section in sections],
            "labels": [list(label) for label in labels],
            "data": _packed(columns),
        }
        self.run_method("load", found)

    def append(self, columns: NDArray[np.uint8], labels: Labels) -> None:
        """Append columns.

        Args:
            columns: values from 0 to 255, shape (new columns, rows).
            labels: column and text of each label below the plot.
        """
        found = {
            "labels": [list(label) for label in labels],
            "data": _packed(columns),
        }
        self.run_method("append", found)


def _packed(columns: NDArray[np.uint8]) -> str:
    return base64.b64encode(np.ascontiguousarray(columns).tobytes()).decode("ascii")

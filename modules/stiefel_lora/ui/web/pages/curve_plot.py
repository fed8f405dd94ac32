"""Plot of curves over steps in the browser."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from nicegui import ui

# Registers the module of the charts, which curve_plot.js imports.
from nicegui.elements.echart import echart as _charts

from ...controllers.run_changes import CurveChanges

__all__ = ["CurvePlot"]

assert _charts


class CurvePlot(ui.element, component="curve_plot.js"):
    """Plot of curves that are continued.

    Args:
        title: name of the values.
        ready: function that is called when the browser can draw.
    """

    def __init__(self, title: str, ready: Callable[[], None]) -> None:
        super().__init__()
        self.props["title"] = title
        self.is_ready = False
        """Whether the browser can draw."""

        def prepared() -> None:
            self.is_ready = True
            ready()

        self.on("ready", prepared, [])

    def show_changes(
        self, changes: CurveChanges, steps: int, top: float | None
    ) -> None:
        """Continue or replace the curves.

        Args:
            changes: new points.
            steps: last step of the axis.
            top: end of the axis of the values, which then begins at 0. None for the
                range of the values.
        """
        curves = changes.curves
        found = {
            "reload": changes.reload,
            "curves": curves and [dataclasses.asdict(curve) for curve in curves],
            "points": changes.points,
            "range": [steps, top],
        }
        self.run_method("update", found)

"""Table of sample images in the browser, with a comparison of before and after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nicegui import ui

from ...controllers.sample_grid import NO_SAMPLES, SampleGrid

__all__ = ["SamplesView"]

_THUMBNAIL = 256


class SamplesView(ui.element, component="samples_view.js"):
    """Table of sample images.

    Args:
        ready: function that is called when the browser can draw.
        url_of: function that returns the address of an image, reduced to a length of
            its longer edge or not.
    """

    def __init__(
        self, ready: Callable[[], None], url_of: Callable[[Path, int | None], str]
    ) -> None:
        super().__init__()
        self.props["empty"] = NO_SAMPLES
        self._url_of = url_of
        self._shown = SampleGrid()
        self.is_ready = False
        """Whether the browser can draw."""

        def prepared() -> None:
            self.is_ready = True
            ready()

        self.on("ready", prepared, [])

    def show_grid(self, grid: SampleGrid, *, fresh: bool = False) -> None:
        """Show sample images. Only new steps are sent.

        Args:
            grid: sample images of the run.
            fresh: whether it is another run.
        """
        old, self._shown = self._shown, grid
        known = len(old.steps)
        continued = not fresh and grid.steps[:known] == old.steps
        if continued and old.paths == grid.paths:
            return
        kept = all(grid.paths.get(key) == path for key, path in old.paths.items())
        start = known if continued and kept else 0
        rounds = [
            {
                "step": grid.steps[column],
                "images": [
                    self._urls(grid.paths.get((row, column)))
                    for row in range(len(grid.prompts))
                ],
            }
            for column in range(start, len(grid.steps))
        ]
        verb = "append" if start else "load"
        self.run_method(verb, {"prompts": list(grid.prompts), "rounds": rounds})

    def _urls(self, path: Path | None) -> tuple[str, str] | None:
        if path is None:
            return None
        return self._url_of(path, _THUMBNAIL), self._url_of(path, None)

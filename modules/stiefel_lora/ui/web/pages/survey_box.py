"""Buckets and problems of the images in the browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import ui

from ...controllers.survey import Size, Survey
from ...controllers.training_preview import TrainedImage
from .thumbnails_view import Thumbnail, ThumbnailsView

__all__ = ["SurveyBox"]

# Maximum number of problems in the list, and of crops.
_MOST_PROBLEMS = 300
_MOST_CROPS = 120


class SurveyBox:
    """Summary, table of buckets with the crops of one, and list of problems.

    Args:
        chosen: function that is called with an image that was clicked.
        crop_of: function that returns the URL of the crop of an image, or None.
    """

    def __init__(
        self,
        chosen: Callable[[Path], None],
        crop_of: Callable[[TrainedImage], str | None],
    ) -> None:
        self._chosen, self._crop_of = chosen, crop_of
        self.summary = ui.label().classes("sl-pre q-mt-sm")
        columns = [
            {"name": name, "label": name, "field": name, "align": "left"}
            for name in ("Size", "Images")
        ]
        self.table = ui.table(columns=columns, rows=[], row_key="Size", pagination=12)
        self.table.props("dense flat").classes("w-full")
        self.table.on("rowClick", self._clicked, [[], ["Size"], []])
        self.note = ui.label().classes("sl-quiet")
        self.crops = ThumbnailsView(lambda key, adds, extends: chosen(Path(key)))
        self.problems = ui.list().props("dense separator")
        self.problems.classes("sl-remark sl-list")
        self._shown: Survey | None = None
        self._sizes: dict[str, Size] = {}
        self._size = ""

    def show_survey(self, found: Survey) -> None:
        """Show a survey."""
        if found is self._shown:
            return
        self._shown = found
        self.summary.set_text(found.summary)
        rows = sorted(found.buckets.items(), key=lambda item: item[0][0] / item[0][1])
        self._sizes = {f"{size[0]} x {size[1]}": size for size, _ in rows}
        self.table.rows = [
            {"Size": text, "Images": found.buckets[size]}
            for text, size in self._sizes.items()
        ]
        self._show_bucket(self._size)
        self._show_problems(found)

    def _show_problems(self, found: Survey) -> None:
        self.problems.clear()
        with self.problems:
            for problem in found.problems[:_MOST_PROBLEMS]:
                path = problem.path
                ui.item(
                    f"{path.name}: {problem.message}",
                    on_click=lambda path=path: self._chosen(path),
                )
            rest = len(found.problems) - _MOST_PROBLEMS
            if rest > 0:
                ui.item(f"and {rest} more")

    def _clicked(self, event: Any) -> None:
        self._show_bucket(str(event.args[1]["Size"]))

    def _show_bucket(self, text: str) -> None:
        """Show the crops of a bucket, or of the first one."""
        if text not in self._sizes:
            text = next(iter(self._sizes), "")
        self._size = text
        found = self._shown
        images = found.images.get(self._sizes[text], []) if found and text else []
        shown = images[:_MOST_CROPS]
        more = (
            f", the first {_MOST_CROPS} are shown" if len(images) > len(shown) else ""
        )
        self.note.set_text(f"Crops of {text}{more}" if shown else "")
        self.crops.show_images([self._thumbnail(image) for image in shown])

    def _thumbnail(self, image: TrainedImage) -> Thumbnail:
        path = image.entry.image.path
        hint = f"{path.name}: {image.describe(0)}"
        return Thumbnail(str(path), path.name, self._crop_of(image), hint=hint)

"""Buckets and problems of the images in the browser."""

from __future__ import annotations

from nicegui import ui

from ...controllers.survey import Survey

__all__ = ["SurveyBox"]

# Maximum number of problems in the list.
_MOST_PROBLEMS = 300


class SurveyBox:
    """Summary, table of buckets, and list of problems."""

    def __init__(self) -> None:
        self.summary = ui.label().classes("sl-pre q-mt-sm")
        columns = [
            {"name": name, "label": name, "field": name, "align": "left"}
            for name in ("Size", "Images")
        ]
        self.table = ui.table(columns=columns, rows=[], row_key="Size", pagination=12)
        self.table.props("dense flat").classes("w-full")
        self.problems = ui.label().classes("sl-pre sl-remark sl-list")
        self._shown: Survey | None = None

    def show_survey(self, found: Survey) -> None:
        """Show a survey."""
        if found is self._shown:
            return
        self._shown = found
        self.summary.set_text(found.summary)
        rows = sorted(found.buckets.items(), key=lambda item: item[0][0] / item[0][1])
        self.table.rows = [
            {"Size": f"{width} x {height}", "Images": count}
            for (width, height), count in rows
        ]
        lines = [
            f"{problem.path.name}: {problem.message}"
            for problem in found.problems[:_MOST_PROBLEMS]
        ]
        rest = len(found.problems) - _MOST_PROBLEMS
        if rest > 0:
            lines.append(f"and {rest} more")
        self.problems.set_text("\n".join(lines))

"""Growing text in the browser."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nicegui import ui

__all__ = ["TextLog"]


class TextLog(ui.element, component="text_log.js"):
    """Text to which lines are added.

    Args:
        label: name for screen readers.
        ready: function that is called when the browser can show lines.
    """

    def __init__(self, label: str, ready: Callable[[], None]) -> None:
        super().__init__()
        self.props["label"] = label
        self.is_ready = False
        """Whether the browser can show lines."""

        def prepared() -> None:
            self.is_ready = True
            ready()

        self.on("ready", prepared, [])

    def clear_text(self) -> None:
        """Remove all lines."""
        self.run_method("clear")

    def add_lines(self, lines: Sequence[str]) -> None:
        """Add lines at the end."""
        if lines:
            self.run_method("add", list(lines))

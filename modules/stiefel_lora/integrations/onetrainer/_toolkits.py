"""Common functions for the GUI toolkits of OneTrainer (PySide6 and customtkinter)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["lock", "show", "when_gone"]


def show(widget: Any, visible: bool) -> None:
    """Show or hide a widget, keeping its grid cell."""
    if hasattr(widget, "setVisible"):
        widget.setVisible(visible)
    elif visible:
        widget.grid()
    else:
        widget.grid_remove()


def lock(widget: Any) -> None:
    """Show a read-only value in a widget."""
    if hasattr(widget, "setEnabled"):
        widget.setEnabled(False)
    else:
        widget.configure(state="disabled")


def when_gone(widget: Any, action: Callable[[], None]) -> None:
    """Call ``action`` when the widget is destroyed."""
    if hasattr(widget, "destroyed"):
        widget.destroyed.connect(lambda *_: action())
    else:
        widget.bind("<Destroy>", lambda *_: action(), add="+")

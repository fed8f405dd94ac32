"""Pages of the browser interface. NiceGUI is imported when they are registered."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..context import WebContext

__all__ = ["register_all"]


def register_all(context: WebContext) -> None:
    """Register all pages. Called once, before the server is started.

    Args:
        context: settings, queue and folders of the server.
    """
    from .home_page import register

    register(context)

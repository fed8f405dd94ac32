"""Controllers of the GUI, without Qt and tested without a display."""

from __future__ import annotations

__all__: list[str] = []

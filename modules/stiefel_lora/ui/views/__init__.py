"""Qt widgets of the GUI."""

from __future__ import annotations

__all__: list[str] = []

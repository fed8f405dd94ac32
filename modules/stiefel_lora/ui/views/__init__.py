"""What the window shows: Qt widgets over the controllers."""

from __future__ import annotations

__all__: list[str] = []

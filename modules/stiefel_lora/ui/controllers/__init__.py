"""What the window knows and does, without Qt: tested without a display."""

from __future__ import annotations

__all__: list[str] = []

"""Controllers of the GUI, which do not import Qt."""

from __future__ import annotations

__all__: list[str] = []

"""Metrics of a run and the files that they are written to."""

from __future__ import annotations

__all__: list[str] = []

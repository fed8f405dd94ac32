"""Checkpoints of a run, and an exact resume from one."""

from __future__ import annotations

__all__: list[str] = []

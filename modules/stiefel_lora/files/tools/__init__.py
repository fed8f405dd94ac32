"""Tools for LoRA files of all key formats: inspect, resize, merge, convert, verify."""

from __future__ import annotations

__all__: list[str] = []

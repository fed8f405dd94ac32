"""Inspect, resize, merge, convert and verify LoRA files of every key format."""

from __future__ import annotations

__all__: list[str] = []

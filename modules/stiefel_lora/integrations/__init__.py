"""Entrances for trainers that people already use: one file per host, no host code."""

from __future__ import annotations

__all__: list[str] = []

"""Estimates of the GPU memory and disk space of a run, computed from tensor shapes."""

from __future__ import annotations

from .disk import DiskEstimate, estimate_disk, free_space
from .estimate import MemoryEstimate, Part, estimate_memory
from .settings import part_settings, usual_settings

__all__ = [
    "DiskEstimate",
    "MemoryEstimate",
    "Part",
    "estimate_disk",
    "estimate_memory",
    "free_space",
    "part_settings",
    "usual_settings",
]

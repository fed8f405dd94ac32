"""Checkpoints of a run, and an exact resume from one.

``checkpoint`` is the format on disk, ``snapshot`` moves a state into it and back,
``keeper`` writes and removes them, ``branches`` holds what a resume leaves behind,
``resume`` finds where to start, ``identity`` and ``image_changes`` compare a checkpoint
with the run that resumes from it.
"""

from __future__ import annotations

__all__: list[str] = []

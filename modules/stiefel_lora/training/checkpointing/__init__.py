"""Checkpoints of a run, and an exact resume from one.

``checkpoint`` is the format on disk, ``snapshot`` converts between it and the state,
``keeper`` writes and removes checkpoints, ``branches`` handles those that a resume
abandons, ``resume`` finds the one to start from, ``identity`` and ``image_changes``
compare a checkpoint with the run that resumes from it.
"""

from __future__ import annotations

__all__: list[str] = []

"""Saving and loading of checkpoints, from which runs resume exactly.

``checkpoint`` defines the format on disk, ``snapshot`` converts between checkpoints and
the training state, ``keeper`` writes and removes checkpoints, ``branches`` moves
checkpoints of abandoned branches, ``resume`` finds the checkpoint to resume from, and
``identity`` and ``image_changes`` compare a checkpoint with the current run.
"""

from __future__ import annotations

__all__: list[str] = []

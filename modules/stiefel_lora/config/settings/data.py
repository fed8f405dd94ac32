"""Pictures to learn from and to measure on, and how they are prepared."""

from __future__ import annotations

from .._base import FolderPath, StrictModel
from ..parts import Concepts, Side

__all__ = ["DataSettings"]


class DataSettings(StrictModel):
    """Pictures to learn from and to measure on, and how they are prepared."""

    concepts: Concepts = ()
    """Folders of pictures to learn from, with captions in .txt files beside them."""

    validation_concepts: Concepts = ()
    """Folders of pictures that are never learned from; the loss on them tells whether
    training still helps. Leave some pictures out for it if you can."""

    resolution: Side = 1024
    """Pixels of a square picture's side, a multiple of 8; 1024 for SDXL."""

    cache_dir: FolderPath | None = None
    """Folder for encoded pictures and captions, which several runs can share. Unset:
    inside output_dir."""

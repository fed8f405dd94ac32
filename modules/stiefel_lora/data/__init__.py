"""Folders of pictures, captions and their caches.

Importing this package imports no torch: forms and the command line use the scan.
``store``, ``pictures`` and ``prepare`` need torch and are imported by training alone.
"""

from __future__ import annotations

from .folder import Picture, Scan, scan_concepts
from .framing import Frame, square_frame
from .order import DataOrder

__all__ = ["DataOrder", "Frame", "Picture", "Scan", "scan_concepts", "square_frame"]

"""Folders of pictures, captions and their caches.

Importing this package imports no torch: forms and the command line use the scan.
``store``, ``pictures`` and ``prepare`` need torch and are imported by training alone.
"""

from __future__ import annotations

from .buckets import Buckets, buckets_of
from .folder import Picture, Scan, scan_all, scan_concepts
from .framing import Frame, cover_frame, square_frame
from .order import DataOrder, Visit

__all__ = [
    "Buckets",
    "DataOrder",
    "Frame",
    "Picture",
    "Scan",
    "Visit",
    "buckets_of",
    "cover_frame",
    "scan_all",
    "scan_concepts",
    "square_frame",
]

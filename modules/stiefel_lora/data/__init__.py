"""Image folders, captions and their caches.

Importing this package does not import torch: forms and the command line use the scan.
``tensor_store``, ``decoding`` and ``prepare`` need torch and are only used by training.
"""

from __future__ import annotations

from .buckets import Buckets, buckets_of
from .folder import CaptionedImage, Scan, scan_concepts
from .framing import Frame, cover_frame, square_frame
from .order import DataOrder, Visit
from .split import scan_all

__all__ = [
    "Buckets",
    "CaptionedImage",
    "DataOrder",
    "Frame",
    "Scan",
    "Visit",
    "buckets_of",
    "cover_frame",
    "scan_all",
    "scan_concepts",
    "square_frame",
]

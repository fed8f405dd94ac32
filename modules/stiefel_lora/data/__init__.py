"""Image folders, captions and caches of encoded images.

Importing this package does not import torch. The modules ``tensor_store``, ``decoding``
and ``prepare`` import torch and are only used for training.
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

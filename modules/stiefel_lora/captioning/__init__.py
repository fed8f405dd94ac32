"""Automatic captions of images by a tagger or a captioning model.

Importing this package does not import torch, transformers or onnxruntime.
"""

from __future__ import annotations

from .caption_folder import Captioned, caption_folder
from .captioner import Captioner, CaptionOptions, open_captioner
from .captioner_location import CaptionerFiles, find_captioner

__all__ = [
    "CaptionOptions",
    "Captioned",
    "Captioner",
    "CaptionerFiles",
    "caption_folder",
    "find_captioner",
    "open_captioner",
]

"""Finding, checking and loading the weights of base models."""

from __future__ import annotations

from .facts import FamilyFacts, InFiles
from .find import find_model
from .quantized import quantized_source
from .source import ModelSource, folder_source

__all__ = [
    "FamilyFacts",
    "InFiles",
    "ModelSource",
    "find_model",
    "folder_source",
    "quantized_source",
]

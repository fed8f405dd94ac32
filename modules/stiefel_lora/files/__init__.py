"""Reading and writing of LoRA files in the kohya and PEFT formats.

Names are imported on first use, so that ``files.atomic`` and ``files.metadata`` can be
used without importing torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .atomic import atomic_write
    from .dora import apply_lora, complete_dora, row_scale
    from .kohya import save_kohya
    from .load import load_lora
    from .metadata import training_metadata
    from .metadata_images import LearnedFolder, image_metadata, tag_frequency
    from .peft import save_peft
    from .svd import compress
    from .tensors import read_tensors, write_tensors
    from .tools.base_checkpoint import Checkpoint
    from .tools.converting import convert_lora
    from .tools.extracting import ExtractReport, extract_lora
    from .tools.inspection import LayerReport, LoraReport, Summary, inspect_lora
    from .tools.into_checkpoint import IntoReport, add_into_checkpoint
    from .tools.lora_file import LoraFile, LoraLayer, OtherLayer
    from .tools.merging import MergeReport, Part, merge_lora
    from .tools.nearest_lora import Rank
    from .tools.open_lora import open_lora
    from .tools.overlaps import OverlapReport, overlap
    from .tools.products import Method
    from .tools.resizing import ResizeReport, Target, resize_lora
    from .tools.save_lora import Saved, save_lora
    from .tools.verifying import Check, verify_lora
    from .weights import LoraFactors, LoraWeights, canonical_name, with_one_alpha

__all__ = [
    "Check",
    "Checkpoint",
    "ExtractReport",
    "IntoReport",
    "LayerReport",
    "LearnedFolder",
    "LoraFactors",
    "LoraFile",
    "LoraLayer",
    "LoraReport",
    "LoraWeights",
    "MergeReport",
    "Method",
    "OtherLayer",
    "OverlapReport",
    "Part",
    "Rank",
    "ResizeReport",
    "Saved",
    "Summary",
    "Target",
    "add_into_checkpoint",
    "apply_lora",
    "atomic_write",
    "canonical_name",
    "complete_dora",
    "compress",
    "convert_lora",
    "extract_lora",
    "image_metadata",
    "inspect_lora",
    "load_lora",
    "merge_lora",
    "open_lora",
    "overlap",
    "read_tensors",
    "resize_lora",
    "row_scale",
    "save_kohya",
    "save_lora",
    "save_peft",
    "tag_frequency",
    "training_metadata",
    "verify_lora",
    "with_one_alpha",
    "write_tensors",
]

_HOME = {
    "Check": "tools.verifying",
    "Checkpoint": "tools.base_checkpoint",
    "ExtractReport": "tools.extracting",
    "IntoReport": "tools.into_checkpoint",
    "LayerReport": "tools.inspection",
    "LearnedFolder": "metadata_images",
    "LoraFactors": "weights",
    "LoraFile": "tools.lora_file",
    "LoraLayer": "tools.lora_file",
    "LoraReport": "tools.inspection",
    "LoraWeights": "weights",
    "MergeReport": "tools.merging",
    "Method": "tools.products",
    "OtherLayer": "tools.lora_file",
    "OverlapReport": "tools.overlaps",
    "Part": "tools.merging",
    "Rank": "tools.nearest_lora",
    "ResizeReport": "tools.resizing",
    "Saved": "tools.save_lora",
    "Summary": "tools.inspection",
    "Target": "tools.resizing",
    "add_into_checkpoint": "tools.into_checkpoint",
    "apply_lora": "dora",
    "atomic_write": "atomic",
    "canonical_name": "weights",
    "complete_dora": "dora",
    "compress": "svd",
    "convert_lora": "tools.converting",
    "extract_lora": "tools.extracting",
    "inspect_lora": "tools.inspection",
    "load_lora": "load",
    "merge_lora": "tools.merging",
    "open_lora": "tools.open_lora",
    "overlap": "tools.overlaps",
    "image_metadata": "metadata_images",
    "read_tensors": "tensors",
    "resize_lora": "tools.resizing",
    "row_scale": "dora",
    "save_kohya": "kohya",
    "save_lora": "tools.save_lora",
    "save_peft": "peft",
    "tag_frequency": "metadata_images",
    "training_metadata": "metadata",
    "verify_lora": "tools.verifying",
    "with_one_alpha": "weights",
    "write_tensors": "tensors",
}


# Old name -> new name; the old ones work until 0.2.
_RENAMED = {"picture_metadata": "image_metadata"}


def __getattr__(name: str) -> Any:
    name = _RENAMED.get(name, name)
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

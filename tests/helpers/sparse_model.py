"""Full-size models as folders and files without numbers: a table and a hole.

A ``.safetensors`` file is its table and then bytes; a file that is only stretched to
its length takes no room on the disk, and examining it costs what a real one costs.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from stiefel_lora.checkpoints.base_model import known_settings
from stiefel_lora.checkpoints.facts import FamilyFacts
from stiefel_lora.checkpoints.from_pretrained import build
from stiefel_lora.checkpoints.supplied_parts import ClipTokenizer

__all__ = ["Shapes", "shapes_of", "write_sparse", "write_sparse_folder"]

Shapes = dict[str, Sequence[int]]


def shapes_of(facts: FamilyFacts, part: str, **changes: Any) -> Shapes:
    """Names and shapes of a part at its published size, in the names of its class."""
    settings = {**known_settings(facts, part), **changes}
    with torch.device("meta"):
        model = build(facts.files[part].loader, settings)
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def write_sparse(path: Path, shapes: Mapping[str, Sequence[int]]) -> Path:
    """Write a float16 file of these shapes, its numbers a hole."""
    table, place = {}, 0
    for name, shape in shapes.items():
        size = 2
        for side in shape:
            size *= side
        offsets = [place, place + size]
        table[name] = {"dtype": "F16", "shape": [*shape], "data_offsets": offsets}
        place += size
    text = json.dumps(table).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + place)
    return path


def write_sparse_folder(
    folder: Path, facts: FamilyFacts, kind: str, t5_tokenizer: Path | None = None
) -> Path:
    """Write a model of a family in the diffusers format at its published size.

    Args:
        folder: new folder.
        facts: of the family.
        kind: class of its pipeline.
        t5_tokenizer: folder that takes the place of T5's tokenizer.
    """
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    for part in facts.parts:
        inside = folder / part
        if part in facts.files:
            in_transformers = part.startswith("text")
            stem = "model" if in_transformers else "diffusion_pytorch_model"
            write_sparse(inside / f"{stem}.safetensors", shapes_of(facts, part))
            settings = facts.record.stock_folder / f"{part}.json"
            shutil.copy(settings, inside / "config.json")
        elif part == "scheduler":
            inside.mkdir()
            settings = facts.record.stock_folder / "scheduler.json"
            shutil.copy(settings, inside / "scheduler_config.json")
        elif part in facts.clip_padding:
            loader = facts.tokenizers[part]
            made = ClipTokenizer(facts.clip_padding[part]).load(loader, None)
            made.save_pretrained(inside)
        else:
            assert t5_tokenizer is not None
            shutil.copytree(t5_tokenizer, inside)
    return folder

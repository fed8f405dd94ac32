"""The demo's base model as diffusers' example scripts can read it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

__all__ = ["script_base"]

POSITIONS = 77
"""Tokens that the FLUX script pads every caption to, whatever the tokenizer has."""

_WEIGHT = "embeddings.position_embedding.weight"


def script_base(model: Path, folder: Path) -> Path:
    """Give the FLUX demo's CLIP as many positions as the script asks for.

    The base stays where it is; a copy in ``folder`` gets zeros for the positions that
    the demo does not know. Captions are encoded once, so no step is longer by it.
    """
    settings = model / "text_encoder" / "config.json"
    if not (model / "transformer").is_dir():
        return model
    known = json.loads(settings.read_text("utf-8"))
    if known["max_position_embeddings"] >= POSITIONS:
        return model
    made = Path(shutil.copytree(model, folder / "base"))
    known["max_position_embeddings"] = POSITIONS
    (made / "text_encoder/config.json").write_text(json.dumps(known), "utf-8")
    path = made / "text_encoder" / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if name.endswith(_WEIGHT))
    old = weights[name]
    weights[name] = torch.zeros(POSITIONS, old.shape[1], dtype=old.dtype)
    weights[name][: len(old)] = old
    save_file(weights, path, {"format": "pt"})
    return made

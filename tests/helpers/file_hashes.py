"""Hashes of LoRA files, computed as sd-scripts does."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path

import safetensors.torch
from safetensors import safe_open

__all__ = ["hashes_of_sd_scripts"]


def hashes_of_sd_scripts(path: Path) -> tuple[str, str]:
    """The hash of the weights and the legacy one, from a file with ss_ entries."""
    with safe_open(path, "pt") as file:
        notes = dict(file.metadata() or {})
    own = {key: text for key, text in notes.items() if key.startswith("ss_")}
    stream = BytesIO(safetensors.torch.save(safetensors.torch.load_file(path), own))
    length = int.from_bytes(stream.read(8), "little")
    stream.seek(8 + length)
    model = hashlib.sha256(stream.read()).hexdigest()
    stream.seek(0x100000)
    return model, hashlib.sha256(stream.read(0x10000)).hexdigest()[:8]

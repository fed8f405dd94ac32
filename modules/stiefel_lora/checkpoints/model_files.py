"""Reading of settings, and hashing of large files, of a base model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._exceptions import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from hashlib import _Hash

    from .header import Entry

__all__ = ["WEIGHT_SUFFIXES", "read_model_json", "sample_file", "sample_tensors"]

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".ckpt", ".pt")
_CHUNK = 1 << 16
_CHUNKS = 64
_PIECE = 1 << 12


def read_model_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelError: If the file is missing, unreadable or not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path} is missing or damaged. Download the base model again."
        ) from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} is damaged: it does not contain a JSON object.")
    return value


def sample_file(path: Path, digest: _Hash) -> None:
    """Update a hash with a file. Of large files, 64 pieces of 64 KiB are used."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _CHUNK * _CHUNKS:
            digest.update(file.read())
            return
        for index in range(_CHUNKS):
            file.seek((size - _CHUNK) * index // (_CHUNKS - 1))
            digest.update(file.read(_CHUNK))


def sample_tensors(
    path: Path, entries: Mapping[str, Entry], skip: int, digest: _Hash
) -> None:
    """Update a hash with tensors of a safetensors file. Only parts are used if many.

    Args:
        path: path of the file.
        entries: tensors to use.
        skip: length of the prefix of their names, which is ignored.
        digest: hash to update.
    """
    whole = sum(entry.size for entry in entries.values()) <= _CHUNK * _CHUNKS
    with path.open("rb") as file:
        for name, entry in sorted(entries.items()):
            digest.update(f"{name[skip:]}/{entry.dtype}/{entry.shape}".encode())
            piece = entry.size if whole else min(entry.size, _PIECE)
            for start in (entry.start, entry.start + entry.size - piece):
                file.seek(start)
                digest.update(file.read(piece))

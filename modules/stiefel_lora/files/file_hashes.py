"""Hashes by which other programs identify a LoRA file.

``AutoV2`` and ``AutoV3`` are the names on CivitAI. A1111 and Forge show ``AutoV3`` in
the settings of an image, from the metadata if they contain it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from typing import Any

from .streamed import LEGACY_PART, HashedPart

__all__ = ["FileHashes", "file_hashes"]

_CHUNK = 1 << 24


@dataclasses.dataclass(frozen=True)
class FileHashes:
    """Hashes of a safetensors file, as lowercase hexadecimal digits."""

    sha256: str
    """SHA-256 of the whole file."""

    model: str
    """SHA-256 of the weights, without the header: ``sshs_model_hash``."""

    legacy: str
    """``sshs_legacy_hash`` of sd-scripts, 8 digits."""

    @property
    def autov2(self) -> str:
        """First 10 digits of the hash of the file, which changes with the metadata."""
        return self.sha256[:10]

    @property
    def autov3(self) -> str:
        """First 12 digits of the hash of the weights."""
        return self.model[:12]

    def to_json(self) -> dict[str, str]:
        """Return all hashes by name."""
        return {
            "sha256": self.sha256,
            "autov2": self.autov2,
            "autov3": self.autov3,
            "sshs_model_hash": self.model,
            "sshs_legacy_hash": self.legacy,
        }


def file_hashes(path: str | os.PathLike[str]) -> FileHashes:
    """Compute the hashes of a valid safetensors file, which is read once in parts.

    >>> import safetensors.torch, tempfile, torch
    >>> path = tempfile.mktemp(suffix=".safetensors")
    >>> safetensors.torch.save_file({"a": torch.zeros(2)}, path)
    >>> file_hashes(path).autov3
    'af5570f5a181'
    """
    whole, model = hashlib.sha256(), hashlib.sha256()
    with open(path, "rb") as stream:
        length = stream.read(8)
        header = stream.read(int.from_bytes(length, "little"))
        whole.update(length + header)
        start = _header_length(json.loads(header))
        legacy = HashedPart(*(edge - start for edge in LEGACY_PART))
        while data := stream.read(_CHUNK):
            whole.update(data)
            model.update(data)
            legacy.update(memoryview(data))
    digest = legacy.digest.hexdigest()[:8]
    return FileHashes(whole.hexdigest(), model.hexdigest(), digest)


def _header_length(header: dict[str, Any]) -> int:
    """Return the length of the header if it only had the ``ss_*`` entries."""
    notes = header.pop("__metadata__", None) or {}
    own = {key: text for key, text in notes.items() if key.startswith("ss_")}
    kept = {"__metadata__": own, **header}
    text = json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode()
    return 8 + len(text) + -len(text) % 8

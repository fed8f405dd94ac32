"""Safetensors files: written whole, read back before they count, hashed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from .._exceptions import ModelError, OutputError
from .atomic import atomic_write

__all__ = ["legacy_hash", "read_tensors", "tensor_hash", "write_tensors"]

_LEGACY_START, _LEGACY_LENGTH = 0x100000, 0x10000


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
) -> None:
    """Write ``path`` in one step and check every bit of it before it takes the name.

    Raises:
        OutputError: the system refused, or the file read back is not what was meant.
    """
    data = safetensors.torch.save(dict(tensors), dict(metadata))
    with atomic_write(path) as part:
        part.write_bytes(data)
        # Twice the file in memory is enough.
        del data
        stored, notes = _parse(part.read_bytes())
        if notes != dict(metadata) or not _same(stored, tensors):
            raise OutputError(
                f"{path} read back differs from what was written, so it was thrown "
                "away; the disk or the memory of this machine may be failing."
            )


def read_tensors(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and metadata; the file is closed and free afterwards.

    Raises:
        ModelError: no such file, or it is no whole safetensors file.
    """
    try:
        return _parse(Path(path).read_bytes())
    except OSError as error:
        raise ModelError(f"{path} can not be read: {error.strerror}.") from error
    except (SafetensorError, ValueError) as error:
        raise ModelError(
            f"{path} is damaged or no safetensors file ({error}); copy or write it "
            "again."
        ) from error


def tensor_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, in hex, of all a file holds after its header (the ModelSpec rule)."""
    data = safetensors.torch.save(dict(tensors))
    return hashlib.sha256(memoryview(data)[_header_end(data) :]).hexdigest()


def legacy_hash(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """First 8 hex digits of the SHA-256 of 64 KiB at 1 MiB, as sd-scripts counts it.

    It is that of the file with the ``ss_*`` entries of its metadata alone. Where the
    file ends before 1 MiB, nothing is hashed: that is so in sd-scripts too.
    """
    kept = {key: text for key, text in metadata.items() if key.startswith("ss_")}
    data = memoryview(safetensors.torch.save(dict(tensors), kept))
    part = data[_LEGACY_START : _LEGACY_START + _LEGACY_LENGTH]
    return hashlib.sha256(part).hexdigest()[:8]


def _parse(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors = safetensors.torch.load(data)
    header = json.loads(data[8 : _header_end(data)])
    return tensors, header.get("__metadata__", {})


def _header_end(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def _same(stored: Mapping[str, Tensor], meant: Mapping[str, Tensor]) -> bool:
    return stored.keys() == meant.keys() and all(
        stored[key].dtype == tensor.dtype
        and stored[key].shape == tensor.shape
        and torch.equal(_bits(stored[key]), _bits(tensor))
        for key, tensor in meant.items()
    )


def _bits(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)

"""Safetensors files written one tensor after the other, never whole in memory.

The bytes are those of ``safetensors.torch.save``: its order of tensors, its header. The
hashes of the content stand in the header, before the content: room is left for them and
filled at the end.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from .._exceptions import OutputError
from .atomic import atomic_write
from .tensors import dtype_codes

__all__ = ["Spec", "write_streamed"]

# Bytes of a file that sd-scripts' first hash counts.
_LEGACY_PART = (0x100000, 0x110000)

_MODELSPEC, _MODEL = "modelspec.hash_sha256", "sshs_model_hash"
_LEGACY = "sshs_legacy_hash"
_CHUNK = 1 << 24


@dataclasses.dataclass(frozen=True)
class Spec:
    """Dtype and shape of a tensor to be written."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> Spec:
        """Those of a tensor."""
        return cls(tensor.dtype, tuple(tensor.shape))

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        count = functools.reduce(lambda product, size: product * size, self.shape, 1)
        return count * self.dtype.itemsize


def write_streamed(
    path: str | os.PathLike[str],
    specs: Mapping[str, Spec],
    make: Callable[[str], Tensor],
    metadata: Mapping[str, str],
) -> None:
    """Write ``path`` in one step and check every byte before it takes the name.

    Args:
        path: of the file.
        specs: key of each tensor -> its dtype and shape.
        make: gives the tensor of a key; called once for each, in the order of the file,
            in which keys of one dtype are sorted.
        metadata: of the file. Entries for hashes of the content get their values here.

    Raises:
        OutputError: the system refused, a tensor is not as announced, or the file read
            back is not what was written.
    """
    room_for = {_MODELSPEC: "0x" + 64 * "0", _MODEL: 64 * "0", _LEGACY: 8 * "0"}
    notes = {key: room_for.get(key, text) for key, text in metadata.items()}
    order = sorted(specs, key=lambda key: (_place(specs[key].dtype), key))
    room = len(_header(order, specs, notes))
    own = {key: text for key, text in notes.items() if key.startswith("ss_")}
    legacy = _Part(*(edge - len(_header(order, specs, own)) for edge in _LEGACY_PART))
    digest = hashlib.sha256()
    with atomic_write(path) as part, part.open("r+b") as stream:
        stream.seek(room)
        for key in order:
            tensor = make(key).detach()
            if Spec.of(tensor) != specs[key]:
                raise OutputError(
                    f"{path}: {key} is {Spec.of(tensor)}, announced was {specs[key]}."
                )
            data = _bytes(tensor)
            digest.update(data)
            legacy.update(data)
            stream.write(data)
            # Not beside the next one: it may be as large.
            del tensor, data
        sha = digest.hexdigest()
        known = {_MODELSPEC: f"0x{sha}", _MODEL: sha}
        known[_LEGACY] = legacy.digest.hexdigest()[:8]
        notes = {key: known.get(key, text) for key, text in notes.items()}
        header = _header(order, specs, notes)
        stream.seek(0)
        stream.write(header)
        stream.flush()
        if not _reads_back(part, header, sha):
            raise OutputError(
                f"{path} read back differs from what was written, so it was thrown "
                "away; the disk or the memory of this machine may be failing."
            )


class _Part:
    """Hash of the bytes between two places of a stream."""

    def __init__(self, start: int, end: int) -> None:
        self.digest = hashlib.sha256()
        self._start, self._end, self._at = start, end, 0

    def update(self, data: memoryview) -> None:
        first, last = self._start - self._at, self._end - self._at
        self.digest.update(data[max(first, 0) : max(last, 0)])
        self._at += len(data)


def _header(
    order: Iterable[str], specs: Mapping[str, Spec], notes: Mapping[str, str]
) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(notes)} if notes else {}
    end = 0
    for key in order:
        spec = specs[key]
        start, end = end, end + spec.nbytes
        entries[key] = {
            "dtype": dtype_codes()[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _place(dtype: torch.dtype) -> int:
    if dtype not in dtype_codes():
        raise OutputError(f"A file cannot hold {dtype}.")
    return list(dtype_codes()).index(dtype)


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.cpu().contiguous().reshape(-1).view(torch.uint8)
    return flat.numpy().data


def _reads_back(path: Path, header: bytes, sha: str) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(header)) == header and _sha(stream) == sha


def _sha(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    while data := stream.read(_CHUNK):
        digest.update(data)
    return digest.hexdigest()

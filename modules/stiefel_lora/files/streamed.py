"""Writing of safetensors files, with only one tensor in memory at a time.

The result is identical to that of ``safetensors.torch.save``. The header contains
hashes of the content, which are filled in at the end.
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

__all__ = ["LEGACY_PART", "HashedPart", "Spec", "write_streamed"]

LEGACY_PART = (0x100000, 0x110000)
"""Range of bytes that the legacy hash of sd-scripts covers."""

_MODELSPEC, _MODEL = "modelspec.hash_sha256", "sshs_model_hash"
_LEGACY = "sshs_legacy_hash"
_CHUNK = 1 << 24


@dataclasses.dataclass(frozen=True)
class Spec:
    """Dtype and shape of a tensor that will be written."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> Spec:
        """Return the dtype and shape of a tensor."""
        return cls(tensor.dtype, tuple(tensor.shape))

    @property
    def nbytes(self) -> int:
        """Size in the file in bytes."""
        count = functools.reduce(lambda product, size: product * size, self.shape, 1)
        return count * self.dtype.itemsize


def write_streamed(
    path: str | os.PathLike[str],
    specs: Mapping[str, Spec],
    make: Callable[[str], Tensor],
    metadata: Mapping[str, str],
    check: Callable[[Path], None] | None = None,
    *,
    overwrite: bool = True,
) -> None:
    """Write a safetensors file atomically and verify it.

    Args:
        path: path of the file.
        specs: dtype and shape of each tensor by key.
        make: function that returns the tensor of a key. It is called once per key,
            sorted by dtype and key.
        metadata: metadata of the file. Hashes of the content are added.
        check: function that is called with the complete file under a temporary name. If
            it raises, an existing file is not changed.
        overwrite: whether to replace a file that exists at the end.

    Raises:
        OutputError: If the file cannot be written, a tensor differs from its spec, or
            verification fails.
    """
    # Placeholders of the length of the hashes, so that the final header has the length
    # of the reserved space.
    room_for = {_MODELSPEC: "0x" + 64 * "0", _MODEL: 64 * "0", _LEGACY: 8 * "0"}
    notes = {key: room_for.get(key, text) for key, text in metadata.items()}
    order = sorted(specs, key=lambda key: (_place(specs[key].dtype), key))
    room = len(_header(order, specs, notes))
    own = {key: text for key, text in notes.items() if key.startswith("ss_")}
    # The bytes are counted in a file with the ss_ entries alone, whose header is
    # shorter than the one written here.
    legacy = HashedPart(
        *(edge - len(_header(order, specs, own, empty=True)) for edge in LEGACY_PART)
    )
    digest = hashlib.sha256()
    with atomic_write(path, overwrite=overwrite) as part, part.open("r+b") as stream:
        stream.seek(room)
        for key in order:
            tensor = make(key).detach()
            if Spec.of(tensor) != specs[key]:
                raise OutputError(
                    f"{path}: {key} is {Spec.of(tensor)} instead of {specs[key]}."
                )
            data = _bytes(tensor)
            digest.update(data)
            legacy.update(data)
            stream.write(data)
            # Free it before the next tensor is made, which may be as large.
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
                f"{path}: the data read back differs from the data written, and the "
                "file was deleted. Check the disk and the memory of this machine."
            )
        if check is not None:
            check(part)


class HashedPart:
    """Hash of the bytes between two positions of a stream."""

    def __init__(self, start: int, end: int) -> None:
        self.digest = hashlib.sha256()
        self._start, self._end, self._at = start, end, 0

    def update(self, data: memoryview) -> None:
        """Add the next bytes of the stream."""
        first, last = self._start - self._at, self._end - self._at
        self.digest.update(data[max(first, 0) : max(last, 0)])
        self._at += len(data)


def _header(
    order: Iterable[str],
    specs: Mapping[str, Spec],
    notes: Mapping[str, str],
    *,
    empty: bool = False,
) -> bytes:
    """Return the header. ``empty``: whether to write metadata without entries."""
    entries: dict[str, object] = {}
    if notes or empty:
        entries["__metadata__"] = dict(notes)
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
        raise OutputError(f"{dtype} is not supported by safetensors files.")
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

"""Cache of tensors on disk, with a safetensors file per entry."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from .._exceptions import OutputError

__all__ = ["TensorStore", "cache_key"]

_FORMAT = "stiefel_lora cache 1"
_MAX_HEADER = 1 << 20


def cache_key(**parts: str | int | float | list[int] | list[float]) -> str:
    """Compute a cache key from named values.

    >>> cache_key(a=1, b="x") == cache_key(b="x", a=1)
    True
    """
    text = json.dumps({"format": _FORMAT, **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class TensorStore:
    """Cache of named tensors in files ``folder/ab/abcdef....safetensors``.

    Several processes can use it. Files have a checksum, and are written under a
    temporary name and renamed, so that incomplete entries are never read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """Return the path of an entry, which does not have to exist."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def holds(self, key: str) -> bool:
        """Return whether an entry exists. Only its size is checked."""
        try:
            with self.path(key).open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                # A damaged length must not lead to an allocation of that size.
                header = json.loads(file.read(length)) if length < _MAX_HEADER else {}
                size = os.fstat(file.fileno()).st_size
            ends = [
                entry["data_offsets"][1]
                for entry in header.values()
                if "data_offsets" in entry
            ]
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
            return False
        # A safetensors file is 8 bytes of length, the header, and the bytes of the
        # tensors.
        return bool(ends) and size == 8 + length + max(ends)

    def discard(self, key: str) -> None:
        """Remove an entry."""
        with contextlib.suppress(OSError):
            self.path(key).unlink()

    def read(self, key: str) -> dict[str, Tensor] | None:
        """Read the tensors of an entry. None if it is missing or damaged."""
        try:
            data = self.path(key).read_bytes()
            tensors = safetensors.torch.load(data)
            written = _checksum_in(data)
        except (OSError, SafetensorError, ValueError, KeyError):
            return None
        return tensors if written == _checksum(tensors) else None

    def write(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Write an entry. An existing entry is replaced.

        Raises:
            OutputError: If the folder is not writable, or the disk is full.
        """
        path = self.path(key)
        whole = {
            name: value.detach().cpu().contiguous() for name, value in tensors.items()
        }
        data = safetensors.torch.save(whole, {"checksum": _checksum(whole)})
        # With the process id, since several runs may share the folder. Two writers of
        # one key write the same content, so the last rename wins harmlessly.
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not flushed to the disk: an entry that a power failure damages has the
            # wrong length or checksum, and is encoded again by this run or the next.
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise OutputError(
                f"The cache folder {self.folder} is not writable "
                f"({error.strerror}). Free disk space, or set cache_dir to another "
                "folder."
            ) from error


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    # Sorted, so that the checksum does not depend on the order in the file.
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(safetensors.torch.save({name: tensors[name]}))
    return digest.hexdigest()


def _checksum_in(data: bytes) -> str:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])["__metadata__"]["checksum"]

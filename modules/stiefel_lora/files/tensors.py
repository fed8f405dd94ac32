"""Reading, writing, verification and hashing of safetensors files."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from .._exceptions import ModelError, OutputError
from .atomic import atomic_write
from .utf8_path import utf8_path

__all__ = [
    "Stored",
    "check_no_pickle",
    "dtype_codes",
    "legacy_hash",
    "read_one",
    "read_table",
    "read_tensors",
    "tensor_hash",
    "write_tensors",
]

_PICKLES = (b"PK\3\4", b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5")
_LEGACY_START, _LEGACY_LENGTH = 0x100000, 0x10000


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
) -> None:
    """Write a safetensors file atomically and verify it.

    Raises:
        OutputError: If the file cannot be written, or verification fails.
    """
    data = safetensors.torch.save(dict(tensors), dict(metadata))
    with atomic_write(path) as part:
        part.write_bytes(data)
        # Keep at most two copies of the file in memory.
        del data
        stored, notes = _parse(part.read_bytes())
        if notes != dict(metadata) or not _same(stored, tensors):
            raise OutputError(
                f"{path}: the data read back differs from the data written, and the "
                "file was deleted. Check the disk and the memory of this machine."
            )


def read_tensors(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and metadata of a safetensors file.

    The tensors are views of a single buffer.

    Raises:
        ModelError: If the file is missing, or not a complete safetensors file.
    """
    check_no_pickle(path)
    try:
        return _views(Path(path))
    except FileNotFoundError as error:
        # safetensors raises it without errno and strerror.
        raise ModelError(f"{path} does not exist. Check the path.") from error
    except OSError as error:
        reason = error.strerror or error
        raise ModelError(f"{path} cannot be read: {reason}.") from error
    except ModelError:
        raise
    except (SafetensorError, ValueError) as error:
        raise ModelError(
            f"{path} is damaged or not a safetensors file ({error}). Download or "
            "save it again."
        ) from error


def check_no_pickle(path: str | os.PathLike[str]) -> None:
    """Check that a file is not a pickle file, which can execute code when it is loaded.

    Raises:
        ModelError: If the file is a zip archive or a pickle, or a pipe or a device.
    """
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        # A pipe without a writer would block.
        raise ModelError(f"{path} is a pipe or a device. Use a regular file.")
    try:
        with Path(path).open("rb") as stream:
            start = stream.read(8)
        size = Path(path).stat().st_size
    except OSError:
        # The reader reports it.
        return
    # In a safetensors file these are the length of its header.
    if start.startswith(_PICKLES) and int.from_bytes(start, "little") > size:
        raise ModelError(
            f"{path} is a pickle file of torch.save (.pt, .ckpt, .bin), which can "
            "execute arbitrary code, and is not opened. Convert it to .safetensors "
            "with the program that created it."
        )


def tensor_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the content after the header, as in ModelSpec."""
    data = safetensors.torch.save(dict(tensors))
    return hashlib.sha256(memoryview(data)[_header_end(data) :]).hexdigest()


def legacy_hash(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return the legacy hash of sd-scripts: 8 digits of the SHA-256 of 64 KiB at 1 MiB.

    It is the hash of a file that only has the ``ss_*`` entries of the metadata. If the
    file is smaller than 1 MiB, the hash is that of an empty input, as in sd-scripts.
    """
    kept = {key: text for key, text in metadata.items() if key.startswith("ss_")}
    data = memoryview(safetensors.torch.save(dict(tensors), kept))
    part = data[_LEGACY_START : _LEGACY_START + _LEGACY_LENGTH]
    return hashlib.sha256(part).hexdigest()[:8]


@dataclasses.dataclass(frozen=True)
class Stored:
    """Dtype, shape and byte range of a tensor in a file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    """Offset of the first byte in the file."""

    end: int


def read_table(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Stored], dict[str, str]]:
    """Read dtypes, shapes and byte ranges of all tensors, and the metadata.

    Raises:
        ModelError: If a dtype is not supported.
        OSError: If the file cannot be read.
        SafetensorError: If the header does not match the file.
    """
    # Opening checks the header: the ranges are contiguous and end with the file.
    with utf8_path(path) as known, safetensors.safe_open(known, "pt"):
        pass
    with Path(path).open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    # Some programs write null.
    metadata = header.pop("__metadata__", None) or {}
    dtypes = {code: dtype for dtype, code in dtype_codes().items()}
    table = {}
    for key, entry in header.items():
        if entry["dtype"] not in dtypes:
            raise ModelError(
                f"{path}: {key} has the unsupported dtype {entry['dtype']}. Use a file "
                f"with one of the dtypes {', '.join(dtypes)}."
            )
        first, last = (8 + length + offset for offset in entry["data_offsets"])
        shape = tuple(entry["shape"])
        table[key] = Stored(dtypes[entry["dtype"]], shape, first, last)
    return table, metadata


def read_one(path: str | os.PathLike[str], place: Stored) -> Tensor:
    """Read a tensor without a second copy in memory."""
    data = bytearray(place.end - place.start)
    with Path(path).open("rb") as stream:
        stream.seek(place.start)
        stream.readinto(data)
    return _view(data, dataclasses.replace(place, start=0, end=len(data)))


def _views(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all tensors as views of a single buffer, and the metadata."""
    # Read the table first, so that a damaged file is not read as a whole.
    table, metadata = read_table(path)
    # np.empty, because bytearray would fill the memory with zeros.
    data = np.empty(path.stat().st_size, dtype=np.uint8)
    with path.open("rb") as stream:
        stream.readinto(data.data)
    return {key: _view(data, place) for key, place in table.items()}, metadata


def _view(data: bytearray | np.ndarray, place: Stored) -> Tensor:
    if place.start == place.end:
        return torch.empty(place.shape, dtype=place.dtype)
    own, offset = data, place.start
    # A header of any length is valid, so tensors may begin at odd addresses. torch
    # accepts those, but its kernels may assume alignment.
    if offset % place.dtype.itemsize:
        own, offset = bytearray(data[place.start : place.end]), 0
    count = (place.end - place.start) // place.dtype.itemsize
    flat = torch.frombuffer(own, dtype=place.dtype, count=count, offset=offset)
    return flat.reshape(place.shape)


@functools.cache
def dtype_codes() -> dict[torch.dtype, str]:
    """Return the safetensors names of dtypes, in the order of safetensors files."""
    known = (torch.float64, torch.int64, torch.float32, torch.int32, torch.bfloat16)
    known += (torch.float16, torch.int16, torch.float8_e4m3fn, torch.float8_e5m2)
    known += (torch.int8, torch.uint8, torch.bool)
    names = {str(dtype): dtype for dtype in known}
    one_each = {name: torch.zeros(1).to(dtype) for name, dtype in names.items()}
    data = safetensors.torch.save(one_each)
    header = json.loads(data[8 : _header_end(data)])
    order = sorted(header, key=lambda name: header[name]["data_offsets"][0])
    return {names[name]: header[name]["dtype"] for name in order}


def _parse(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors = safetensors.torch.load(data)
    header = json.loads(data[8 : _header_end(data)])
    return tensors, header.get("__metadata__") or {}


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

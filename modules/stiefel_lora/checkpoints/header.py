"""Reading of the header of a checkpoint file.

A safetensors file begins with the length of a JSON header (8 bytes, little endian),
followed by the header, which contains the dtype, shape and byte range of each tensor.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from .._exceptions import ModelError

__all__ = ["Entry", "Header", "read_header", "refuse_stand_in"]

_SAFE = (".safetensors", ".sft")
_PICKLES = (".ckpt", ".pt", ".pth", ".bin")
# The largest header of a real checkpoint has some 300 KB; safetensors allows 100 MB.
_LARGEST_TABLE = 100_000_000
_LORA_MARKS = ("lora_down", "lora_up", "lora_A", "lora_B", "lora.down", "lora.up")
_LORA_MARKS += ("lokr_w", "hada_w", "dora_scale")
_LARGEST_SIDE = 2**40
# Content found instead of a large file after git clone without git-lfs, and after
# downloading a page that requires signing in.
_POINTER = b"version https://git-lfs"
_PAGES = (b"<!doctype", b"<html", b"<?xml")


@dataclasses.dataclass(frozen=True)
class Entry:
    """Entry of a tensor in a header."""

    dtype: str
    """Dtype in safetensors format, such as F16, BF16 or F8_E4M3."""

    shape: tuple[int, ...]
    start: int
    """Offset of the first byte in the file."""

    size: int
    """Number of bytes."""


@dataclasses.dataclass(frozen=True)
class Header:
    """Header of a safetensors file."""

    path: Path
    entries: dict[str, Entry]
    metadata: dict[str, str]

    def has(self, name: str) -> bool:
        """Return whether the file contains a tensor with this name."""
        return name in self.entries

    def any(self, start: str) -> bool:
        """Return whether the file contains a tensor with this prefix."""
        return any(name.startswith(start) for name in self.entries)


def read_header(path: Path) -> Header:
    """Read the header of a checkpoint of a base model.

    Raises:
        ModelError: If the file is damaged, incomplete, a LoRA, or not a safetensors
            file.
    """
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        raise ModelError(
            f"{path} is a pickle file, which can execute arbitrary code when it is "
            "loaded, and is not opened. Convert it to .safetensors."
        )
    if suffix not in _SAFE:
        raise ModelError(
            f"{path} is not a .safetensors file. Use a checkpoint in this format."
        )
    refuse_stand_in(path)
    table, end = _read_table(path)
    entries = _entries(path, table, end)
    _open(path)
    mark = next((name for name in entries if any(m in name for m in _LORA_MARKS)), None)
    if mark is not None:
        raise ModelError(
            f"{path} is a LoRA and not a base model, because it contains {mark}. "
            "Use the checkpoint that the LoRA was trained on."
        )
    return Header(path, entries, table.get("__metadata__") or {})


def refuse_stand_in(path: Path) -> None:
    """Check that a file is not a Git LFS pointer or a web page.

    Raises:
        ModelError: If the file is a pointer or a web page.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(64)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}).") from error
    if begin.startswith(_POINTER):
        raise ModelError(
            f"{path} is a Git LFS pointer. Run git lfs pull in its folder, or "
            "download the file."
        )
    if begin.lstrip().lower().startswith(_PAGES):
        raise ModelError(
            f"{path} is a web page, not a model. Download the file again. Some "
            "models require you to log in first."
        )


def _open(path: Path) -> None:
    """Open a file with safetensors to validate its header. Values are not read."""
    try:
        with safe_open(str(path), framework="pt"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"{path} is damaged: its header cannot be read ({str(error)[:200]}). "
            "Download it again."
        ) from error


def _read_table(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header and the offset of the tensor data."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LARGEST_TABLE:
                raise ValueError
            table = json.loads(file.read(length))
            if not isinstance(table, dict):
                raise ValueError
    except (OSError, ValueError, RecursionError, struct.error) as error:
        raise ModelError(
            f"{path} is damaged: it does not start with a safetensors header. "
            "Download it again."
        ) from error
    return table, 8 + length


def _entries(path: Path, table: dict[str, Any], begin: int) -> dict[str, Entry]:
    try:
        entries = {
            name: _entry(about, begin)
            for name, about in table.items()
            if name != "__metadata__"
        }
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path} is damaged: its header cannot be read. Download it again."
        ) from error
    end = max((entry.start + entry.size for entry in entries.values()), default=begin)
    size = path.stat().st_size
    if size < end:
        raise ModelError(
            f"{path} is incomplete: it has {size:,} of {end:,} bytes. Download it "
            "again."
        )
    if size > end:
        raise ModelError(
            f"{path} is damaged: it has {size:,} bytes, but should have {end:,}. "
            "Download it again."
        )
    return entries


def _entry(about: dict[str, Any], begin: int) -> Entry:
    first, last = about["data_offsets"]
    shape = tuple(int(side) for side in about["shape"])
    within = all(0 <= side < _LARGEST_SIDE for side in shape)
    if not within or last < first or (math.prod(shape) > 0) != (last > first):
        raise ValueError
    return Entry(str(about["dtype"]), shape, begin + first, last - first)

"""Records of an offline run of wandb, read from its file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["read_wandb"]

# The log format of LevelDB after a header of 7 bytes: blocks with records, each with
# a checksum, its length and its kind (whole, first, middle or last part).
_HEADER, _BLOCK, _RECORD = 7, 32768, 7
_WHOLE, _FIRST = 1, 2


def read_wandb(path: Path) -> Iterator[Any]:
    """Yield the records of a file ``run-ID.wandb``."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, parts = path.read_bytes(), _HEADER, b""
    assert data[:4] == b":W&B"
    while place + _RECORD <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < _RECORD:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        part = data[place + _RECORD : place + _RECORD + length]
        place += _RECORD + length
        parts = part if kind in (_WHOLE, _FIRST) else parts + part
        if kind in (_WHOLE, 4):
            record = Record()
            record.ParseFromString(parts)
            yield record

"""Encode pictures and captions once, keep them on disk, hand them out in batches."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._exceptions import DataError
from .buckets import Buckets, Size
from .folder import Picture, Scan
from .framing import Frame, cover_frame
from .order import Visit
from .pictures import read_picture
from .sizes import upright_size
from .store import TensorStore, cache_key
from .unreadable import UnreadablePicture

if TYPE_CHECKING:
    from ..families.base import Batch, Family

__all__ = ["EncodedSet", "encode_caption", "encode_set"]

# Pictures kept in memory after their first use; further ones are read again.
_MEMORY_BYTES = 1 << 30

Tick = Callable[[], None]


@dataclasses.dataclass(frozen=True)
class _Entry:
    picture: Picture
    size: Size
    picture_key: str
    text_key: str


class EncodedSet:
    """Encoded pictures in the order of the scan, unreadable ones left out."""

    def __init__(
        self, entries: Sequence[_Entry], store: TensorStore, unreadable: Sequence[str]
    ) -> None:
        self._entries = list(entries)
        self._store = store
        self._memory: dict[str, dict[str, Tensor]] = {}
        self._used = 0
        self.unreadable = list(unreadable)
        """File name and reason of every picture that was left out."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def pictures(self) -> list[Picture]:
        """Files and captions, in the order of the indices."""
        return [entry.picture for entry in self._entries]

    @property
    def sizes(self) -> list[Size]:
        """Width and height that each picture was cut to: those of a batch are equal."""
        return [entry.size for entry in self._entries]

    def batch(self, visits: Iterable[Visit]) -> Batch:
        """Stack pictures: on the CPU, in the dtype they were encoded in."""
        entries = [self._entries[visit.picture] for visit in visits]
        items = [
            {**self._load(entry.picture_key), **self._load(entry.text_key)}
            for entry in entries
        ]
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def _load(self, key: str) -> dict[str, Tensor]:
        if key in self._memory:
            return self._memory[key]
        tensors = self._store.read(key)
        if tensors is None:
            raise DataError(
                f"The cache file {self._store.path(key)} disappeared or was damaged "
                f"during training; start again with --resume, it will be rebuilt."
            )
        size = sum(value.numel() * value.element_size() for value in tensors.values())
        if self._used + size <= _MEMORY_BYTES:
            self._memory[key] = tensors
            self._used += size
        return tensors


def encode_set(
    scan: Scan, family: Family, store: TensorStore, buckets: Buckets, tick: Tick
) -> EncodedSet:
    """Encode what the store does not hold yet.

    Every picture is encoded on its own: what the cache holds for it then depends on
    nothing but the picture, the settings and the model.

    Args:
        scan: pictures and captions.
        family: encoders, loaded only when something is missing.
        store: where encoded tensors are kept.
        buckets: the sizes that pictures are cut to.
        tick: called after each picture.

    Raises:
        DataError: not one of the pictures can be read.
    """
    entries: list[_Entry] = []
    unreadable: list[str] = []
    for picture in scan.pictures:
        try:
            original = upright_size(picture.path)
            frame = cover_frame(original, buckets.size_for(original))
            picture_key = _encode_picture(picture.path, frame, family, store)
        except UnreadablePicture as error:
            unreadable.append(f"{picture.path} ({error})")
        else:
            text_key = encode_caption(picture.caption, family, store)
            entries.append(_Entry(picture, frame.size, picture_key, text_key))
        tick()
    if scan.pictures and not entries:
        raise DataError(
            f"None of the {len(scan.pictures)} pictures can be read; the first is "
            f"{unreadable[0]}."
        )
    return EncodedSet(entries, store, unreadable)


def encode_caption(caption: str, family: Family, store: TensorStore) -> str:
    """Make sure that the store holds ``caption`` encoded, and return its key."""
    key = cache_key(kind="text", model=family.text_fingerprint, caption=caption)
    if store.read(key) is None:
        store.write(key, family.encode_caption(caption))
    return key


def _encode_picture(
    path: Path, frame: Frame, family: Family, store: TensorStore
) -> str:
    key = cache_key(
        kind="picture",
        model=family.picture_fingerprint,
        content=_content_hash(path),
        box=[*frame.scaled, *frame.box],
    )
    if store.read(key) is None:
        store.write(key, family.encode_picture(read_picture(path, frame), frame))
    return key


def _content_hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UnreadablePicture(error.strerror or str(error)) from error

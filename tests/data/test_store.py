from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from stiefel_lora import OutputError
from stiefel_lora.data.tensor_store import TensorStore, cache_key

ENTRY = {
    "latents": torch.arange(24, dtype=torch.float32).reshape(2, 3, 4),
    "time_ids": torch.arange(6),
    "embeds": torch.full((3,), 0.1, dtype=torch.bfloat16),
}


def test_entries_come_back_bit_for_bit(tmp_path: Path) -> None:
    store, key = TensorStore(tmp_path), cache_key(kind="x")
    assert store.read(key) is None
    store.write(key, ENTRY)
    found = store.read(key)
    assert found is not None
    assert found.keys() == ENTRY.keys()
    for name, value in ENTRY.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_keys_depend_on_every_part() -> None:
    first = cache_key(kind="picture", content="a", resolution=64)
    assert first == cache_key(resolution=64, content="a", kind="picture")
    assert first != cache_key(kind="picture", content="a", resolution=65)


@pytest.mark.parametrize("place", [0.02, 0.5, 0.99])
def test_a_flipped_byte_is_noticed(tmp_path: Path, place: float) -> None:
    store = TensorStore(tmp_path)
    store.write("ab12", ENTRY)
    path = store.path("ab12")
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 0x10
    path.write_bytes(data)
    assert store.read("ab12") is None
    store.write("ab12", ENTRY)
    assert store.read("ab12") is not None


def test_a_cut_file_is_noticed(tmp_path: Path) -> None:
    store = TensorStore(tmp_path)
    store.write("ab12", ENTRY)
    path = store.path("ab12")
    path.write_bytes(path.read_bytes()[:-7])
    assert store.read("ab12") is None


def test_full_disk_is_a_message_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"No space left on device.*cache_dir"):
        TensorStore(tmp_path).write("ab12", ENTRY)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

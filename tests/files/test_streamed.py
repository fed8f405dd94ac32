"""Files written tensor by tensor have the bytes of those written at once."""

from __future__ import annotations

import hashlib

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from stiefel_lora._exceptions import OutputError
from stiefel_lora.files import read_tensors, streamed
from stiefel_lora.files.streamed import Spec, write_streamed
from stiefel_lora.files.tensors import legacy_hash, tensor_hash

DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn),
    *(torch.float8_e5m2, torch.int64, torch.int8, torch.uint8, torch.bool),
)
TENSORS = st.dictionaries(
    st.text('abc.\u00e9"\\\n', min_size=1, max_size=6).filter(
        lambda name: name != "__metadata__"
    ),
    st.tuples(
        st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3).map(tuple)
    ),
    min_size=1,
    max_size=6,
)


def filled(dtype: torch.dtype, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype)


def written(path, tensors, metadata):
    specs = {key: Spec.of(tensor) for key, tensor in tensors.items()}
    write_streamed(path, specs, tensors.__getitem__, metadata)


@given(TENSORS, st.sampled_from([{}, {"a": 'b"\n\u00e9\x01'}]))
def test_the_bytes_are_those_of_safetensors(tmp_path_factory, kinds, metadata):
    path = tmp_path_factory.mktemp("streamed") / "x.safetensors"
    tensors = {key: filled(*kind) for key, kind in kinds.items()}
    written(path, tensors, metadata)
    assert path.read_bytes() == safetensors.torch.save(tensors, metadata or None)
    found, notes = read_tensors(path)
    assert notes == metadata
    for key, tensor in tensors.items():
        assert (found[key].dtype, found[key].shape) == (tensor.dtype, tensor.shape)
        flat = [t.reshape(-1).view(torch.uint8) for t in (found[key], tensor)]
        assert torch.equal(*flat)


@pytest.mark.parametrize("rows", [1, 300, 1100])
def test_hashes_are_filled_in(tmp_path, rows):
    path = tmp_path / "x.safetensors"
    tensors = {"b": filled(torch.float32, (rows, 512)), "a": torch.tensor(1.0)}
    metadata = {
        "ss_note": "x",
        "other": "y",
        "sshs_model_hash": "",
        "sshs_legacy_hash": "",
        "modelspec.hash_sha256": "",
    }
    written(path, tensors, metadata)
    notes = read_tensors(path)[1]
    data = path.read_bytes()
    content = data[8 + int.from_bytes(data[:8], "little") :]
    assert notes["sshs_model_hash"] == hashlib.sha256(content).hexdigest()
    assert notes["sshs_model_hash"] == tensor_hash(tensors)
    assert notes["modelspec.hash_sha256"] == f"0x{tensor_hash(tensors)}"
    assert notes["sshs_legacy_hash"] == legacy_hash(tensors, metadata)
    assert notes["other"] == "y"


def test_what_reads_back_otherwise_is_thrown_away(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"old")
    monkeypatch.setattr(streamed, "_sha", lambda stream: "0")
    with pytest.raises(OutputError, match="differs from the data written"):
        written(path, {"a": torch.ones(2)}, {})
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_tensor_that_was_not_announced(tmp_path):
    specs = {"a": Spec(torch.float32, (2,))}
    with pytest.raises(OutputError, match="a is Spec"):
        write_streamed(tmp_path / "x", specs, lambda key: torch.ones(3), {})
    with pytest.raises(OutputError, match=r"torch\.complex128 is not supported"):
        written(tmp_path / "x", {"a": torch.ones(1, dtype=torch.complex128)}, {})
    assert not list(tmp_path.iterdir())


def test_tensors_at_odd_places_are_read(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = {"a": torch.ones(3, dtype=torch.uint8), "b": torch.full((2,), 2.5)}
    # b begins at byte 3 of the content; safetensors itself sorts by width.
    header = (
        b'{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},'
        b'"b":{"dtype":"F32","shape":[2],"data_offsets":[3,11]}}'
    )
    content = bytes([1, 1, 1]) + tensors["b"].numpy().tobytes()
    path.write_bytes(len(header).to_bytes(8, "little") + header + content)
    found = read_tensors(path)[0]
    assert torch.equal(found["a"], tensors["a"])
    assert torch.equal(found["b"], tensors["b"])

from __future__ import annotations

import json
import math

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stiefel_lora._exceptions import ModelError, OutputError
from stiefel_lora.files import (
    LoraFactors,
    LoraWeights,
    load_lora,
    read_tensors,
    save_kohya,
    save_peft,
    tensors,
    write_tensors,
)

LINEAR = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "unet.down_blocks.0.resnets.0.conv1"
TEXT = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
TEXT_2 = "text_encoder_2.text_model.encoder.layers.1.mlp.fc2"
MID = "unet.mid_block.attentions.0.proj_in"


def factors(
    out=6, inside=5, rank=3, alpha=3.0, kernel=None, seed=0, size=1.0
) -> LoraFactors:
    random = torch.Generator().manual_seed(seed)
    end = () if kernel is None else (1, 1)
    start = () if kernel is None else (kernel, kernel)
    up = torch.randn(out, rank, *end, generator=random) * size
    down = torch.randn(rank, inside, *start, generator=random)
    return LoraFactors(up, down, alpha)


@st.composite
def lora_weights(draw) -> LoraWeights:
    names = draw(
        st.sets(st.sampled_from([LINEAR, CONV, TEXT, TEXT_2, MID]), min_size=1)
    )
    return {
        name: factors(
            out=draw(st.integers(1, 9)),
            inside=draw(st.integers(1, 9)),
            rank=draw(st.integers(1, 9)),
            alpha=draw(st.floats(2**-10, 2**10, width=32)),
            kernel=draw(st.sampled_from([1, 3])) if name == CONV else None,
            seed=draw(st.integers(0, 99)),
            size=draw(st.sampled_from([1e-6, 1.0, 1e4])),
        )
        for name in sorted(names)
    }


def same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    return left.dtype == right.dtype and torch.equal(left, right)


DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@settings(max_examples=15, deadline=None)
@given(lora_weights(), st.sampled_from(DTYPES))
def test_kohya_comes_back_to_the_bit(tmp_path_factory, weights, dtype):
    path = tmp_path_factory.mktemp("kohya") / "lora.safetensors"
    save_kohya(path, weights, dtype=dtype)
    loaded = load_lora(path)
    assert loaded.keys() == weights.keys()
    for name, meant in weights.items():
        assert same_bits(loaded[name].up, meant.up.to(dtype))
        assert same_bits(loaded[name].down, meant.down.to(dtype))
        assert loaded[name].alpha == meant.alpha


@settings(max_examples=15, deadline=None)
@given(lora_weights(), st.sampled_from(DTYPES))
def test_peft_comes_back_to_rounding(tmp_path_factory, weights, dtype):
    path = tmp_path_factory.mktemp("peft") / "lora.safetensors"
    save_peft(path, weights, dtype=dtype)
    loaded = load_lora(path)
    assert loaded.keys() == weights.keys()
    for name, meant in weights.items():
        assert same_bits(loaded[name].up, meant.up.to(dtype))
        assert loaded[name].alpha == loaded[name].rank == meant.rank
        folded = (meant.down.double() * meant.scale).to(dtype)
        assert same_bits(loaded[name].down, folded)


@given(st.integers(1, 32))
@settings(max_examples=5, deadline=None)
def test_peft_keeps_every_bit_when_alpha_is_the_rank(tmp_path_factory, rank):
    path = tmp_path_factory.mktemp("peft") / "lora.safetensors"
    meant = factors(rank=rank, alpha=float(rank))
    save_peft(path, {LINEAR: meant})
    assert same_bits(load_lora(path)[LINEAR].down, meant.down)


def test_kohya_keys_and_metadata(tmp_path):
    path = tmp_path / "lora.safetensors"
    save_kohya(
        path,
        {LINEAR: factors(rank=3, alpha=1.5)},
        metadata={"ss_output_name": "mine", "lora_adapter_metadata": "{}"},
    )
    stored, notes = read_tensors(path)
    stem = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    suffixes = ("alpha", "lora_down.weight", "lora_up.weight")
    assert sorted(stored) == [f"{stem}.{suffix}" for suffix in suffixes]
    alpha = stored[f"{stem}.alpha"]
    assert (alpha.shape, alpha.dtype, alpha.item()) == ((), torch.float32, 1.5)
    assert notes["ss_output_name"] == "mine"
    assert notes["ss_base_model_version"].startswith("sdxl_")
    assert (notes["ss_network_dim"], notes["ss_network_alpha"]) == ("3", "1.5")
    assert "lora_adapter_metadata" not in notes


def test_the_hash_is_that_of_everything_after_the_header(tmp_path):
    import hashlib

    path = tmp_path / "lora.safetensors"
    for save in (save_kohya, save_peft):
        save(path, {LINEAR: factors()})
        data = path.read_bytes()
        start = 8 + int.from_bytes(data[:8], "little")
        digest = hashlib.sha256(data[start:]).hexdigest()
        assert read_tensors(path)[1]["modelspec.hash_sha256"] == f"0x{digest}"


def test_peft_keys_and_adapter_metadata(tmp_path):
    path = tmp_path / "lora.safetensors"
    weights = {
        LINEAR: factors(rank=2, alpha=8.0),
        MID: factors(rank=2),
        CONV: factors(rank=4, kernel=3),
        TEXT: factors(rank=1),
    }
    implementation = {"modelspec.implementation": "sgm"}
    save_peft(path, weights, metadata=implementation)
    stored, notes = read_tensors(path)
    halves = ("lora_A.weight", "lora_B.weight")
    assert sorted(stored) == sorted(f"{name}.{h}" for name in weights for h in halves)
    config = json.loads(notes["lora_adapter_metadata"])
    assert config["unet.r"] == config["unet.lora_alpha"] == 2
    pattern = {CONV.removeprefix("unet."): 4}
    assert config["unet.rank_pattern"] == config["unet.alpha_pattern"] == pattern
    assert config["text_encoder.target_modules"] == [
        "encoder.layers.0.self_attn.q_proj"
    ]
    assert notes["modelspec.implementation"] == "diffusers"


def test_peft_files_of_others_bring_their_alpha(tmp_path):
    path = tmp_path / "lora.safetensors"
    meant = factors(rank=4)
    config = {
        "unet.r": 4,
        "unet.lora_alpha": 8,
        "unet.alpha_pattern": {"proj_in": 2},
        "text_encoder.lora_alpha": 6,
        "text_encoder.use_rslora": True,
    }
    text = "text_encoder.encoder.layers.0.self_attn.q_proj"
    stored = {}
    for name in (LINEAR, MID, text):
        stored[f"{name}.lora_A.weight"] = meant.down.clone()
        stored[f"{name}.lora_B.weight"] = meant.up.clone()
    write_tensors(path, stored, {"lora_adapter_metadata": json.dumps(config)})
    loaded = load_lora(path)
    assert (loaded[LINEAR].alpha, loaded[MID].alpha) == (8, 2)
    assert loaded[TEXT].scale == 6 / math.sqrt(4)


def test_a_missing_alpha_is_the_rank(tmp_path):
    path = tmp_path / "lora.safetensors"
    save_kohya(path, {LINEAR: factors(rank=3, alpha=1.0)})
    stored, notes = read_tensors(path)
    kept = {key: tensor for key, tensor in stored.items() if ".alpha" not in key}
    write_tensors(path, kept, notes)
    assert load_lora(path)[LINEAR].alpha == 3.0


def test_parameters_and_views_can_be_saved(tmp_path):
    shared = torch.nn.Parameter(torch.randn(4, 4))
    path = tmp_path / "lora.safetensors"
    weights = {
        LINEAR: LoraFactors(shared, shared.T, 4.0),
        MID: LoraFactors(shared, shared, 4.0),
    }
    save_kohya(path, weights)
    assert torch.equal(load_lora(path)[LINEAR].down, shared.detach().T)


@pytest.mark.parametrize("save", [save_kohya, save_peft])
def test_what_cannot_be_stored_is_refused(tmp_path, save):
    path = tmp_path / "lora.safetensors"
    nan = factors()
    nan.up[0, 0] = float("nan")
    huge = LoraFactors(torch.ones(2, 1), torch.full((1, 2), 1e5), 1.0)
    with pytest.raises(OutputError, match="not finite"):
        save(path, {LINEAR: nan})
    with pytest.raises(OutputError, match=r"to_q.* exceeds the range of torch.float16"):
        save(path, {LINEAR: huge}, dtype=torch.float16)
    with pytest.raises(OutputError, match=r"torch.float64 is not supported"):
        save(path, {LINEAR: factors()}, dtype=torch.float64)
    with pytest.raises(OutputError, match="no layer"):
        save(path, {})
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_family_is_refused(tmp_path):
    with pytest.raises(
        ModelError,
        match=r"'sd9' is not supported by the kohya format\. Use one of sdxl",
    ):
        save_kohya(tmp_path / "x", {LINEAR: factors()}, family="sd9")


def test_a_file_that_reads_back_otherwise_is_thrown_away(tmp_path, monkeypatch):
    path = tmp_path / "lora.safetensors"
    save_kohya(path, {LINEAR: factors(seed=1)})
    before = path.read_bytes()
    parse = tensors._parse

    def broken(data: bytes):
        changed = bytearray(data)
        changed[-1] ^= 1
        return parse(bytes(changed))

    monkeypatch.setattr(tensors, "_parse", broken)
    with pytest.raises(OutputError, match="differs"):
        save_kohya(path, {LINEAR: factors(seed=2)})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_damaged_files_are_one_message(tmp_path):
    path = tmp_path / "lora.safetensors"
    with pytest.raises(ModelError, match="does not exist"):
        load_lora(path)
    save_kohya(path, {LINEAR: factors()})
    data = path.read_bytes()
    for broken in (b"", data[:5], data[:60], data[:-1], b"PK\x03\x04" + data):
        path.write_bytes(broken)
        with pytest.raises(ModelError, match="damaged"):
            load_lora(path)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, "0 keys"),
        ({"prior.x.lora_A.weight": (2, 2)}, "do not match"),
        (
            {"lora_unet_middle_block_1_proj_in.hada_w1_a": (2, 2)},
            "not part of a LoRA or DoRA",
        ),
        ({"lora_unet_middle_block_1_proj_in.lora_up.weight": (2, 2)}, "not have both"),
        ({"lora_unet_middle_block_9_proj_in.alpha": ()}, "not a layer of an SDXL"),
        ({"lora_unet_single_blocks_0_linear1.alpha": ()}, "not have both"),
        ({"lora_unet_single_blocks_0_linear9.alpha": ()}, "not a layer of a FLUX"),
        ({"lora_te1_text_projection.alpha": ()}, "not have both"),
        ({f"{MID}.lora_A.weight": (2, 2)}, "not have both"),
        ({f"{MID}.lora_magnitude_vector": (2,)}, "does not have both"),
        (
            {f"{MID}.lora_A.weight": (2, 4), f"{MID}.lora_B.weight": (4, 3)},
            "must have shapes",
        ),
    ],
)
def test_other_kinds_of_files_are_refused(tmp_path, keys, says):
    path = tmp_path / "lora.safetensors"
    stored = {key: torch.zeros(shape) for key, shape in keys.items()}
    safetensors.torch.save_file(stored, path)
    with pytest.raises(ModelError, match=says) as caught:
        load_lora(path)
    assert str(path) in str(caught.value)


SHAPES = st.lists(st.integers(0, 3), max_size=4).map(tuple)
KEYS = st.builds(
    "{}.{}".format,
    st.sampled_from([MID, "lora_unet_middle_block_1_proj_in", "x", "unet"]),
    st.sampled_from(
        [
            "lora_A.weight",
            "lora_B.weight",
            "lora_up.weight",
            "lora_down.weight",
            "lora_magnitude_vector",
            "dora_scale",
            "alpha",
        ]
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(KEYS, SHAPES, max_size=4))
def test_any_keys_and_shapes_load_or_are_refused(tmp_path_factory, shapes):
    path = tmp_path_factory.mktemp("junk") / "lora.safetensors"
    stored = {key: torch.ones(shape) for key, shape in shapes.items()}
    path.write_bytes(safetensors.torch.save(stored))
    try:
        loaded = load_lora(path)
    except ModelError:
        return
    assert all(isinstance(item, LoraFactors) for item in loaded.values())


def test_peft_names_are_made_canonical(tmp_path):
    path = tmp_path / "lora.safetensors"
    short = "text_encoder.encoder.layers.0.self_attn.q_proj"
    save_peft(path, {short: factors()})
    assert list(load_lora(path)) == [TEXT]
    with pytest.raises(ModelError, match="prior"):
        save_peft(path, {"prior.proj_out": factors()})


@pytest.mark.parametrize(
    "notes",
    [
        "[]",
        "{",
        '{"unet.use_dora": true}',
        '{"unet.lora_alpha": null}',
        '{"unet.alpha_pattern": {"(": 1}}',
        '{"unet.alpha_pattern": 3}',
    ],
)
def test_adapter_metadata_that_can_not_be_right(tmp_path, notes):
    path = tmp_path / "lora.safetensors"
    stored = {f"{MID}.lora_{half}.weight": torch.zeros(2, 2) for half in "AB"}
    write_tensors(path, stored, {"lora_adapter_metadata": notes})
    with pytest.raises(ModelError):
        load_lora(path)


@pytest.mark.parametrize(
    ("up", "down", "alpha"),
    [
        ((4, 2), (3, 5), 2.0),
        ((4, 2), (2, 5, 3, 3), 2.0),
        ((4, 2, 3, 3), (2, 5, 1, 1), 2.0),
        ((4, 0), (0, 5), 2.0),
        ((4,), (4,), 2.0),
        ((4, 2), (2, 5), float("nan")),
    ],
)
def test_factors_that_do_not_belong_together(up, down, alpha):
    with pytest.raises(ModelError):
        LoraFactors(torch.zeros(up), torch.zeros(down), alpha)

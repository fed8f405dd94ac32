"""Convert: other keys, the same updates, bit for bit where both hold alpha."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from helpers.lora_files import SPELLINGS, dense, make, stack, write
from stiefel_lora import _commands
from stiefel_lora._exceptions import ModelError, OutputError
from stiefel_lora.files import convert_lora, load_lora, open_lora, verify_lora
from stiefel_lora.files.tools.differences import compared, relative
from stiefel_lora.files.tools.one_thread import one_thread
from stiefel_lora.files.tools.respell import SPELLINGS as TARGETS
from stiefel_lora.files.tools.respell import families_with, in_layout_of

SEEDS = st.integers(0, 2**31)


def run(*args: object):
    return CliRunner().invoke(_commands.app, ["lora", "convert", *map(str, args)])


@given(
    st.sampled_from(sorted(SPELLINGS)),
    st.sampled_from([to for to in TARGETS if "sdxl" in (families_with(to) or "sdxl")]),
    SEEDS,
)
def test_the_updates_stay(tmp_path_factory, spelling, to, seed):
    folder = tmp_path_factory.mktemp("lora")
    file = write(folder / "in.safetensors", make(spelling, seed=seed))
    # peft's own names are written as a folder.
    name = "out" if to == "PEFT (own)" else "out.safetensors"
    saved = convert_lora(file, folder / name, to)
    assert saved.file.spelling == to
    old, new = dense(file), dense(saved.file)
    assert old.keys() == new.keys()
    for key, matrix in old.items():
        assert float((new[key] - matrix).norm()) < 1e-7 * float(matrix.norm())
    assert saved.deviation < 1e-7


@given(st.sampled_from(["OneTrainer", "kohya (diffusers names)"]), SEEDS)
def test_there_and_back_keeps_every_bit_where_both_hold_alpha(
    tmp_path_factory, to, seed
):
    folder = tmp_path_factory.mktemp("lora")
    file = write(folder / "in.safetensors", make("kohya", seed=seed))
    there = convert_lora(file, folder / "there.safetensors", to).file
    back = convert_lora(there, folder / "back.safetensors", "kohya").file
    for one, two in zip(file.layers, back.layers, strict=True):
        assert (one.stem, one.factors.alpha) == (two.stem, two.factors.alpha)
        assert torch.equal(one.factors.up, two.factors.up)
        assert torch.equal(one.factors.down, two.factors.down)


@pytest.mark.parametrize("to", ["kohya", "PEFT"])
def test_what_is_written_is_read_by_the_strict_reader(tmp_path, to):
    file = write(tmp_path / "in.safetensors", make("ComfyUI"))
    convert_lora(file, tmp_path / "out.safetensors", to)
    found = load_lora(tmp_path / "out.safetensors")
    assert set(found) == {layer.name for layer in file.layers}


def flux() -> dict[str, torch.Tensor]:
    found = {}
    for block in range(2):
        for leaf in ("to_q", "to_k", "to_v", "to_out.0"):
            stem = f"transformer.transformer_blocks.{block}.attn.{leaf}"
            found[f"{stem}.lora_A.weight"] = torch.randn(2, 5)
            found[f"{stem}.lora_B.weight"] = torch.randn(4, 2)
    return found


def test_fused_layers_of_flux_there_and_back(tmp_path):
    file = write(tmp_path / "in.safetensors", flux())
    fused = convert_lora(file, tmp_path / "fused.safetensors", "kohya").file
    stem = "lora_unet_double_blocks_0_img_attn_qkv"
    (whole,) = [layer for layer in fused.layers if layer.stem == stem]
    assert (whole.factors.rank, whole.factors.scale) == (6, 1)
    old = dense(file)
    apart = [old[f"model:transformer_blocks_0_attn_to_{x}"] for x in "qkv"]
    assert torch.equal(dense(fused)[whole.key], torch.cat(apart))
    back = convert_lora(fused, tmp_path / "back.safetensors", "PEFT").file
    for one, two in zip(file.layers, back.layers, strict=True):
        assert one.stem == two.stem
        assert torch.equal(one.factors.up, two.factors.up)
        assert torch.equal(one.factors.down, two.factors.down)


@pytest.mark.parametrize(
    ("family", "stem", "kohya"),
    [
        (
            "sdxl",
            "text_encoder_2.text_model.encoder.layers.0.mlp.fc1",
            "lora_te2_text_model_encoder_layers_0_mlp_fc1",
        ),
        (
            "flux",
            "text_encoder_2.encoder.block.0.layer.0.SelfAttention.q",
            "lora_te3_encoder_block_0_layer_0_SelfAttention_q",
        ),
    ],
)
def test_text_encoders(tmp_path, family, stem, kohya):
    own = make("PEFT") if family == "sdxl" else flux()
    encoder = {
        f"{stem}.lora_A.weight": torch.randn(2, 5),
        f"{stem}.lora_B.weight": torch.randn(4, 2),
    }
    file = write(tmp_path / "in.safetensors", own | encoder)
    saved = convert_lora(file, tmp_path / "out.safetensors", "kohya")
    assert kohya in {layer.stem for layer in saved.file.layers}
    assert saved.file.family == family
    back = convert_lora(saved.file, tmp_path / "back.safetensors", "PEFT")
    assert stem in {layer.stem for layer in back.file.layers}


def test_other_families_go_from_dots_to_underscores_only(tmp_path):
    stem = "diffusion_model.layers.3.attention.to_q"
    tensors = {
        f"{stem}.lora_A.weight": torch.randn(2, 5),
        f"{stem}.lora_B.weight": torch.randn(4, 2),
    }
    file = write(tmp_path / "in.safetensors", tensors)
    saved = convert_lora(file, tmp_path / "flat.safetensors", "kohya")
    (layer,) = saved.file.layers
    assert layer.stem == "lora_unet_layers_3_attention_to_q"
    peft = convert_lora(file, tmp_path / "peft.safetensors", "PEFT").file
    assert peft.layers[0].stem == "transformer.layers.3.attention.to_q"
    with pytest.raises(ModelError, match="its own format has underscores"):
        convert_lora(saved.file, tmp_path / "no.safetensors", "PEFT")


def test_metadata(tmp_path):
    file = write(tmp_path / "in.safetensors", make("PEFT"), ss_output_name="mine")
    saved = convert_lora(file, tmp_path / "out.safetensors", "kohya", command="x")
    metadata = saved.file.metadata
    assert metadata["ss_output_name"] == "mine"
    # A1111 hides a file from SDXL without it.
    assert metadata["ss_base_model_version"].startswith("sdxl_")
    assert json.loads(metadata["stiefel_lora_lineage"])["command"] == "x"
    assert "lora_adapter_metadata" not in metadata


def test_alphas_that_differ_are_kept_with_a_remark(tmp_path):
    file = write(tmp_path / "in.safetensors", make("OneTrainer"))
    saved = convert_lora(file, tmp_path / "out.safetensors", "kohya")
    assert {x.factors.alpha for x in saved.file.layers} == {1, 2, 3}
    assert "The layers have different alphas" in saved.remarks[0]


def test_a_dora_keeps_its_spelling_of_lengths(tmp_path):
    stem = SPELLINGS["kohya"][0][0]
    scale = torch.rand(7, 1)
    file = write(tmp_path / "in.safetensors", make() | {f"{stem}.dora_scale": scale})
    saved = convert_lora(file, tmp_path / "out.safetensors", "OneTrainer")
    (dora,) = [layer for layer in saved.file.layers if layer.factors.is_dora]
    assert torch.equal(dora.factors.dora_scale, scale)
    with pytest.raises(ModelError, match="is a DoRA with dora_scale, which the key"):
        convert_lora(file, tmp_path / "no.safetensors", "PEFT")


def test_what_cannot_be_converted(tmp_path):
    lokr = {"lora_unet_middle_block_1_proj_in.lokr_w1": torch.ones(2, 2)}
    file = write(tmp_path / "in.safetensors", make() | lokr)
    with pytest.raises(
        ModelError, match="is LoKr, which is only supported in the key format"
    ):
        convert_lora(file, tmp_path / "no.safetensors", "PEFT")
    plain = write(tmp_path / "plain.safetensors", make())
    with pytest.raises(ModelError, match="'x' is not a supported key format"):
        convert_lora(plain, tmp_path / "no.safetensors", "x")
    with pytest.raises(OutputError, match="is an input"):
        convert_lora(plain, plain.path, "PEFT", overwrite=True)


def test_the_command(tmp_path):
    path, out = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    file = write(path, make())
    for name, spelling in (
        ("peft", "PEFT"),
        ("diffusers-old", "diffusers (old)"),
        ("onetrainer", "OneTrainer"),
        ("kohya", "kohya"),
    ):
        result = run(path, "--to", name, "--output", out, "--overwrite")
        assert result.exit_code == 0, result.stderr
        found = open_lora(out)
        assert found.spelling == spelling
        assert torch.allclose(stack(dense(found)), stack(dense(file)), atol=1e-6)
    assert run(path, "--to", "peft", "--output", out).exit_code == 2
    assert run(path, "--to", "x", "--output", out, "--overwrite").exit_code == 2


def test_threads_are_given_back():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("to", "stem", "program"),
    [
        (
            "ComfyUI",
            "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q",
            "ComfyUI",
        ),
        (
            "kohya (diffusers names)",
            "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q",
            "diffusers",
        ),
    ],
)
def test_names_of_sdxl(tmp_path, to, stem, program):
    encoder = "text_encoder_2.text_model.encoder.layers.0.mlp.fc1"
    more = {
        f"{encoder}.lora_A.weight": torch.randn(4, 5),
        f"{encoder}.lora_B.weight": torch.randn(4, 4),
    }
    file = write(tmp_path / "in.safetensors", make("PEFT", ranks=(4, 4, 4)) | more)
    saved = convert_lora(file, tmp_path / "out.safetensors", to)
    assert stem in {layer.stem for layer in saved.file.layers}
    (check,) = [
        c for c in verify_lora(saved.file, file) if c.program.startswith(program)
    ]
    assert check.is_right, check.summary()


@pytest.mark.parametrize("to", ["ComfyUI", "original names", "OneTrainer (legacy)"])
def test_names_of_flux(tmp_path, to):
    file = write(tmp_path / "in.safetensors", flux())
    saved = convert_lora(file, tmp_path / "out.safetensors", to)
    stem = {
        "ComfyUI": "diffusion_model.double_blocks.0.img_attn.qkv",
        "original names": "double_blocks.0.img_attn.qkv",
        "OneTrainer (legacy)": "lora_transformer_transformer_blocks_0_attn_to_q",
    }[to]
    assert stem in {layer.stem for layer in saved.file.layers}
    alphas = [key for key in saved.file.tensors if key.endswith(".alpha")]
    # Loaders of dotted names ignore alpha, so that it is in the weights.
    assert bool(alphas) == (to == "OneTrainer (legacy)")
    found = {check.program.split()[0]: check for check in verify_lora(saved.file, file)}
    assert found["ComfyUI"].is_right == (to != "original names")
    back = convert_lora(saved.file, tmp_path / "back.safetensors", "PEFT").file
    for key, matrix in dense(file).items():
        assert torch.allclose(dense(back)[key], matrix, rtol=0, atol=1e-6)


def test_a_spelling_of_another_family(tmp_path):
    file = write(tmp_path / "in.safetensors", make())
    with pytest.raises(ModelError, match="original names supports flux, not sdxl"):
        convert_lora(file, tmp_path / "no.safetensors", "original names")


@pytest.mark.parametrize(
    "dtypes", [["bfloat16"] * 3, ["float16", "float32", "float32"]]
)
def test_fused_parts_of_other_scales_and_dtypes_are_rounded_once(tmp_path, dtypes):
    tensors, generator = {}, torch.Generator().manual_seed(0)
    for leaf, rank, alpha, name in zip(
        "qkv", (2, 3, 4), (1.3, 5.0, 0.5), dtypes, strict=True
    ):
        stem = f"transformer.single_transformer_blocks.0.attn.to_{leaf}"
        up = torch.randn(3072, rank, generator=generator)
        down = torch.randn(rank, 3072, generator=generator)
        tensors[f"{stem}.lora_B.weight"] = up.to(getattr(torch, name))
        tensors[f"{stem}.lora_A.weight"] = down.to(getattr(torch, name))
        tensors[f"{stem}.alpha"] = torch.tensor(alpha)
    file = write(tmp_path / "in.safetensors", tensors)
    for dtype, limit in ((torch.float32, 1e-7), (torch.bfloat16, 5e-3)):
        out = tmp_path / "out.safetensors"
        saved = convert_lora(file, out, "kohya", dtype=dtype, overwrite=True)
        back = {layer.name: layer for layer in in_layout_of(saved.file, False).layers}
        for layer in file.layers:
            found, meant = back[layer.name].factors, layer.factors
            assert relative(*compared(found, meant)) < limit
        assert (saved.deviation > 1e-4) == (dtype == torch.bfloat16)

"""Merge: the dense weighted sum, whatever ranks and spellings the files have."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from helpers.lora_files import SPELLINGS, dense, make, stack, write
from stiefel_lora import _commands
from stiefel_lora._exceptions import ModelError, OptionError, OutputError
from stiefel_lora._weighted_path import parse_part
from stiefel_lora.files import (
    Checkpoint,
    Method,
    Part,
    Target,
    add_into_checkpoint,
    load_lora,
    merge_lora,
    open_lora,
)
from stiefel_lora.files.tools.merging import merged
from stiefel_lora.files.tools.products import combined
from stiefel_lora.files.tools.sections import parse_section
from stiefel_lora.files.tools.verifying import compare_loras

SEEDS = st.integers(0, 2**31)
WEIGHTS = st.lists(
    st.floats(-2, 2).filter(lambda weight: abs(weight) > 1e-3), min_size=1, max_size=3
)


def run(*args: object):
    return CliRunner().invoke(_commands.app, ["lora", "merge", *map(str, args)])


def wanted(parts: list[Part]) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for part in parts:
        for key, matrix in dense(part.file).items():
            found[key] = found.get(key, 0) + part.weight * matrix
    return found


@given(
    WEIGHTS,
    st.lists(st.sampled_from(sorted(SPELLINGS)), min_size=3, max_size=3),
    st.lists(st.permutations([1, 3, 4]), min_size=3, max_size=3),
    SEEDS,
)
def test_exact_is_the_dense_weighted_sum(
    tmp_path_factory, weights, spellings, ranks, seed
):
    folder = tmp_path_factory.mktemp("lora")
    parts = [
        Part(
            write(
                folder / f"{place}.safetensors",
                make(spellings[place], seed=seed + place, ranks=tuple(ranks[place])),
            ),
            weight,
        )
        for place, weight in enumerate(weights)
    ]
    report = merge_lora(parts, folder / "out.safetensors")
    found, sums = dense(open_lora(folder / "out.safetensors")), wanted(parts)
    assert report.saved.file.spelling == parts[0].file.spelling
    assert found.keys() == sums.keys()
    size = float(stack(sums).norm())
    parts_size = sum(report.norms)
    assert float((stack(found) - stack(sums)).norm()) < 1e-6 * parts_size
    assert report.norm == pytest.approx(size, rel=1e-6, abs=1e-7 * parts_size)


def test_the_scale_of_alpha_is_applied_once(tmp_path):
    """Equal weights, alpha = rank: where others end at 1/4 or half of the strength."""
    one = write(tmp_path / "a.safetensors", make(alphas=(4.0, 3.0, 2.0)))
    half = merge_lora([Part(one, 0.5), Part(one, 0.5)], tmp_path / "out.safetensors")
    assert torch.allclose(stack(dense(half.saved.file)), stack(dense(one)), rtol=1e-6)
    for layer in half.saved.file.layers:
        stem = layer.stem
        assert layer.factors.rank == 2 * one.by_key[layer.key].factors.rank, stem


@given(st.integers(1, 4), SEEDS)
def test_truncated_is_the_best_of_that_rank(tmp_path_factory, rank, seed):
    folder = tmp_path_factory.mktemp("lora")
    parts = [
        Part(write(folder / f"{n}.safetensors", make(seed=seed + n)), 0.7)
        for n in range(2)
    ]
    report = merge_lora(parts, folder / "out.safetensors", Target(rank=rank))
    sums, found = wanted(parts), dense(report.saved.file)
    lost = [torch.linalg.svdvals(m)[rank:] for m in sums.values()]
    best = float(torch.cat(lost).norm() / stack(sums).norm())
    true = float((stack(found) - stack(sums)).norm() / stack(sums).norm())
    assert true == pytest.approx(best, abs=1e-6)
    assert report.error == pytest.approx(true, abs=1e-8)


def test_weights_of_sections(tmp_path):
    tensors = make() | {
        "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.ones(5, 1),
        "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(
            1, 3
        ),
    }
    file = write(tmp_path / "a.safetensors", tensors)
    old = dense(file)
    parts = [Part(file, 2.0, {"*": 0.5, "down_blocks.*": 0.25})]
    for key, matrix in dense(merged(parts)).items():
        factor = 1.0 if key.startswith("text_encoder") else 0.5
        assert torch.allclose(matrix, factor * old[key], rtol=0, atol=1e-6)
    none = merged([Part(file, 1.0, {"text_encoder": 0})])
    assert {layer.key for layer in none.layers} == {
        key for key in old if key.startswith("model:")
    }
    with pytest.raises(OptionError, match=r"--section: up_\* matches no section of a"):
        merged([Part(file, 1.0, {"up_*": 0})])
    with pytest.raises(OptionError, match="all weights are 0"):
        merged([Part(file, 0.0)])


@pytest.mark.parametrize("first", ["fused", "split"])
def test_fused_and_separate_layers_of_flux(tmp_path, first):
    block = "transformer_blocks.0.attn"
    split = {}
    for n, leaf in enumerate(("to_q", "to_k", "to_v")):
        generator = torch.Generator().manual_seed(n)
        stem = f"transformer.{block}.{leaf}"
        split[f"{stem}.lora_B.weight"] = torch.randn(4, 2, generator=generator)
        split[f"{stem}.lora_A.weight"] = torch.randn(2, 5, generator=generator)
    split["transformer.single_transformer_blocks.0.proj_out.lora_B.weight"] = (
        torch.randn(4, 2)
    )
    split["transformer.single_transformer_blocks.0.proj_out.lora_A.weight"] = (
        torch.randn(2, 3)
    )
    stem = "lora_unet_double_blocks_0_img_attn_qkv"
    fused = {
        f"{stem}.lora_up.weight": torch.randn(12, 2),
        f"{stem}.lora_down.weight": torch.randn(2, 5),
        f"{stem}.alpha": torch.tensor(1.0),
    }
    files = {
        "split": write(tmp_path / "split.safetensors", split),
        "fused": write(tmp_path / "fused.safetensors", fused),
    }
    other = "split" if first == "fused" else "fused"
    report = merge_lora(
        [Part(files[first], 0.5), Part(files[other], 2.0)],
        tmp_path / "out.safetensors",
    )
    weight = {first: 0.5, other: 2.0}
    old = dense(files["split"])
    apart = [old[f"model:transformer_blocks_0_attn_to_{x}"] for x in "qkv"]
    whole = weight["split"] * torch.cat(apart)
    whole += weight["fused"] * next(iter(dense(files["fused"]).values()))
    new = dense(report.saved.file)
    if first == "fused":
        assert report.saved.file.spelling == "kohya"
        found = new["model:double_blocks_0_img_attn_qkv"]
        single = new["model:single_blocks_0_linear2"]
    else:
        assert report.saved.file.spelling == "PEFT"
        found = torch.cat(
            [new[f"model:transformer_blocks_0_attn_to_{x}"] for x in "qkv"]
        )
        single = new["model:single_transformer_blocks_0_proj_out"]
    assert torch.allclose(found, whole, rtol=0, atol=1e-5)
    old_single = old["model:single_transformer_blocks_0_proj_out"]
    assert torch.allclose(single, weight["split"] * old_single, rtol=0, atol=1e-5)
    assert load_lora(tmp_path / "out.safetensors")


def test_layers_that_the_first_file_lacks(tmp_path):
    stems = SPELLINGS["kohya"][0]
    few = {k: t for k, t in make().items() if k.startswith(stems[0])}
    one = write(tmp_path / "a.safetensors", few)
    for spelling in ("PEFT", "kohya"):
        two = write(tmp_path / f"{spelling}.safetensors", make(spelling, seed=3))
        report = merge_lora(
            [Part(one), Part(two)], tmp_path / "out.safetensors", overwrite=True
        )
        sums, found = wanted([Part(one), Part(two)]), dense(report.saved.file)
        assert torch.allclose(stack(found), stack(sums), rtol=0, atol=1e-5)
        assert {layer.stem for layer in report.saved.file.layers} == set(stems)


def test_a_family_without_tables(tmp_path):
    stem = "layers.3.attention.to_q"
    dotted = {
        f"transformer.{stem}.lora_A.weight": torch.randn(2, 5),
        f"transformer.{stem}.lora_B.weight": torch.randn(6, 2),
    }
    flat = f"lora_unet_{stem.replace('.', '_')}"
    kohya = {
        f"{flat}.lora_down.weight": torch.randn(3, 5),
        f"{flat}.lora_up.weight": torch.randn(6, 3),
        f"{flat}.alpha": torch.tensor(1.0),
    }
    parts = [
        Part(write(tmp_path / "a.safetensors", dotted), 0.5),
        Part(write(tmp_path / "b.safetensors", kohya), -1.0),
    ]
    assert parts[0].file.family == "Z-Image"
    report = merge_lora(parts, tmp_path / "out.safetensors")
    (layer,) = report.saved.file.layers
    assert layer.stem == f"transformer.{stem}"
    sums = stack(wanted(parts))
    assert torch.allclose(stack(dense(report.saved.file)), sums, rtol=0, atol=1e-5)


@pytest.mark.parametrize("other", [torch.float8_e4m3fn, torch.float8_e5m2, torch.half])
def test_eight_bits(tmp_path, other):
    parts = [
        Part(
            write(tmp_path / "a.safetensors", make(dtype=torch.float8_e4m3fn)),
        ),
        Part(write(tmp_path / "b.safetensors", make(dtype=other, seed=1)), 0.5),
    ]
    report = merge_lora(parts, tmp_path / "out.safetensors", dtype=torch.float32)
    sums = stack(wanted(parts))
    assert torch.allclose(stack(dense(report.saved.file)), sums, rtol=0, atol=1e-5)


def test_dtype_metadata_and_lineage(tmp_path):
    half = make(dtype=torch.float16)
    one = write(tmp_path / "a.safetensors", half, ss_output_name="a")
    two = write(tmp_path / "b.safetensors", make(dtype=torch.bfloat16))
    out = tmp_path / "out.safetensors"
    merge_lora([Part(one), Part(one)], out, command="merge a a")
    assert open_lora(out).dtypes == {"float16": 3}
    report = merge_lora([Part(one), Part(two)], out, overwrite=True)
    assert report.saved.file.dtypes == {"float32": 3}
    metadata = report.saved.file.metadata
    assert metadata["ss_output_name"] == "a"
    lineage = json.loads(metadata["stiefel_lora_lineage"])
    assert [parent["name"] for parent in lineage["parents"]] == [
        "a.safetensors",
        "b.safetensors",
    ]


def test_what_cannot_be_merged(tmp_path):
    plain = write(tmp_path / "a.safetensors", make())
    stem = SPELLINGS["kohya"][0][0]
    out = tmp_path / "out.safetensors"
    flux = "lora_unet_double_blocks_0_img_attn_qkv"
    cases = {
        "is a LoRA of sdxl, but .* is a LoRA of flux": {
            f"{flux}.lora_up.weight": torch.ones(6, 1),
            f"{flux}.lora_down.weight": torch.ones(1, 2),
        },
        "proj_in is a DoRA, whose row": make() | {f"{stem}.dora_scale": torch.ones(7)},
        "is LoKr, which cannot be merged": make()
        | {"lora_unet_middle_block_1_proj_in.lokr_w1": torch.ones(2, 2)},
        r"proj_in has shape \(7, 8\) in .*, but \(7, 6\) in ": make()
        | {f"{stem}.lora_down.weight": torch.ones(4, 8)},
        r"NaN or infinity in unet\.down_blocks\.1": make()
        | {f"{stem}.lora_down.weight": torch.full((4, 6), torch.nan)},
        "is a LoRA of an unknown family": {
            "new.lora_A.weight": torch.ones(1, 2),
            "new.lora_B.weight": torch.ones(2, 1),
        },
    }
    for place, (message, tensors) in enumerate(cases.items()):
        other = write(tmp_path / f"{place}.safetensors", tensors)
        with pytest.raises(ModelError, match=message):
            merge_lora([Part(plain), Part(other)], out)
    with pytest.raises(OutputError, match="is an input"):
        merge_lora([Part(plain)], plain.path, overwrite=True)
    with pytest.raises(OptionError, match="no file to merge"):
        merge_lora([], out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "path", "weight"),
    [
        ("a.safetensors", "a.safetensors", 1),
        ("a.safetensors:0.7", "a.safetensors", 0.7),
        ("C:/loras/a.safetensors", "C:/loras/a.safetensors", 1),
        ("C:/loras/a.safetensors:-1e-1", "C:/loras/a.safetensors", -0.1),
        (r"C:\x\a.safetensors", r"C:\x\a.safetensors", 1),
        (r"C:\x\a.safetensors:0.7", r"C:\x\a.safetensors", 0.7),
        (r"\\host\x:y\a.safetensors:1e0", r"\\host\x:y\a.safetensors", 1),
        ("a:b.safetensors", "a:b.safetensors", 1),
        (":5", ":5", 1),
    ],
)
def test_a_weight_follows_the_last_colon(text, path, weight):
    found, number = parse_part(text)
    assert (found.as_posix(), number) == (path, weight)


def test_numbers_that_are_none():
    with pytest.raises(OptionError, match="the weight nan is not a finite number"):
        parse_part("a:nan")
    for text in ("a.safetensors:0.5:0.3", r"C:\x\a.safetensors:0.5:0.3"):
        with pytest.raises(OptionError, match=r"two weights. Use one, such as .*:0.5"):
            parse_part(text)
    assert parse_section("2:down_blocks.*=0.5", 2) == (1, "down_blocks.*", 0.5)
    for text in ("down=1", "3:x=1", "0:x=1", "1:x=y", "1:x=inf", "1:=2"):
        with pytest.raises(OptionError, match="must have the form FILE:PATTERN=FACTOR"):
            parse_section(text, 2)


def test_the_command(tmp_path):
    one, two = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    parts = [Part(write(one, make()), 0.7), Part(write(two, make("PEFT", seed=1)), 0.4)]
    out = tmp_path / "out.safetensors"
    result = run(f"{one}:0.7", f"{two}:0.4", "--output", out)
    assert result.exit_code == 0, result.stderr
    sums = stack(wanted(parts))
    found = open_lora(out)
    assert torch.allclose(stack(dense(found)), sums, rtol=0, atol=1e-5)
    assert f"Norm of the sum: {float(sums.norm()):.4g}" in result.stdout
    lineage = json.loads(found.metadata["stiefel_lora_lineage"])
    assert lineage["command"] == (
        "stiefel-lora lora merge a.safetensors:0.7 b.safetensors:0.4"
    )
    again = run(one, two, "--output", out)
    assert again.exit_code == 2
    assert "exists. Add --overwrite" in again.stderr
    small = run(
        *(one, two, "--output", out, "--overwrite", "--rank", 2),
        *("--section", "2:down_blocks.*=0.5"),
    )
    assert small.exit_code == 0, small.stderr
    assert {layer.factors.rank for layer in open_lora(out).layers} == {2}


def test_the_name_of_the_adapter_is_that_of_the_first_file(tmp_path):
    """A file with two names of adapters could not be read by any program."""
    start, generator = (
        "unet.down_blocks.1.attentions.0",
        torch.Generator().manual_seed(0),
    )

    def made(leaf: str, adapter: str):
        stem = f"{start}.{leaf}"
        tensors = {
            f"{stem}.lora_A{adapter}.weight": torch.randn(2, 6, generator=generator),
            f"{stem}.lora_B{adapter}.weight": torch.randn(7, 2, generator=generator),
        }
        path = tmp_path / f"{leaf}{adapter}.safetensors"
        return Part(write(path, tensors, ss_base_model_version="sdxl_base_v1-0"))

    for one, two in ((".a", ".b"), (".a", ""), ("", ".b")):
        parts = [made("proj_in", one), made("proj_out", two)]
        out = tmp_path / "out.safetensors"
        merge_lora(parts, out, overwrite=True)
        found, sums = open_lora(out), wanted(parts)
        assert {key.endswith(f"{one}.weight") for key in found.tensors} == {True}
        assert len(found.layers) == 2
        assert torch.allclose(stack(dense(found)), stack(sums), atol=1e-6)
    other = [made("proj_in", ".a"), Part(write(tmp_path / "k.safetensors", make()))]
    file = merge_lora(other, tmp_path / "mixed.safetensors").saved.file
    assert all(".a.weight" in key for key in file.tensors)


@pytest.mark.parametrize(
    ("density", "kept"), [(0.5, 24), (0.01, 1), (0.99, 48), (1.0, 48)]
)
def test_entries_of_equal_size_keep_their_share(density, kept):
    update = torch.ones(6, 8)
    update[0] *= -1
    for name in ("magnitude", "ties"):
        found = combined([update], Method(name, density))
        assert int((found != 0).sum()) == kept
    mixed = combined([update * torch.arange(8)], Method("magnitude", 0.25))
    assert sorted(mixed.abs().unique().tolist()) == [0.0, 6.0, 7.0]
    assert int((mixed != 0).sum()) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--density", 0.3], "--density: the method sum does not use it"),
        (["--seed", 3], "--seed: the method sum does not use it"),
        (["--method", "norm", "--density", 1], "--density: the method norm"),
        (["--method", "ties", "--seed", 0], "--seed: the method ties"),
    ],
)
def test_a_setting_of_another_method_is_refused(tmp_path, options, message):
    write(tmp_path / "a.safetensors", make())
    out = tmp_path / "out.safetensors"
    ran = run(tmp_path / "a.safetensors", "--output", out, *options)
    assert (ran.exit_code, out.exists()) == (2, False)
    assert message in ran.stderr


def test_the_error_of_methods_on_entries_includes_rounding(tmp_path):
    file = write(tmp_path / "a.safetensors", make())
    whole = stack(dense(file))
    for dtype in (torch.float16, torch.bfloat16):
        report = merge_lora(
            [Part(file)],
            tmp_path / "out.safetensors",
            method=Method("magnitude", 1.0),
            dtype=dtype,
            overwrite=True,
        )
        true = float((stack(dense(report.saved.file)) - whole).norm() / whole.norm())
        assert report.error == pytest.approx(true, rel=1e-3)


def test_a_size_is_used_by_the_sum_of_many_files(tmp_path):
    """Their headers are not part of the output."""
    tensors = {}
    for place in range(40):
        stem = f"layer.{'x' * 150}.{place}"
        tensors[f"{stem}.lora_A.weight"] = torch.randn(4, 64)
        tensors[f"{stem}.lora_B.weight"] = torch.randn(64, 4)
    parts = [
        Part(write(tmp_path / f"{place}.safetensors", tensors)) for place in range(20)
    ]
    report = merge_lora(parts, tmp_path / "out.safetensors", Target(size=0.12))
    assert 0.07e6 < report.saved.file.size <= 0.12e6


PROJ = "down_blocks.0.attentions.0.proj_in"


def proj_in(path, spelling: str, *, conv: bool, rank: int, seed: int):
    """A file of SD 1.5 whose ``proj_in`` is a matrix or a 1 x 1 convolution."""
    random = torch.Generator().manual_seed(seed)
    ones = [1, 1] if conv else []
    up = torch.randn(6, rank, *ones, generator=random)
    down = torch.randn(rank, 5, *ones, generator=random)
    if spelling == "kohya":
        stem = f"lora_unet_{PROJ.replace('.', '_')}"
        tensors = {f"{stem}.lora_up.weight": up, f"{stem}.lora_down.weight": down}
    else:
        tensors = {f"unet.{PROJ}.lora_B.weight": up, f"unet.{PROJ}.lora_A.weight": down}
    return write(path, tensors)


@pytest.mark.parametrize("method", ["sum", "ties", "norm"])
@pytest.mark.parametrize("conv", [True, False])
def test_a_matrix_and_a_1x1_convolution_are_merged(tmp_path, conv, method):
    one = proj_in(tmp_path / "1.safetensors", "kohya", conv=conv, rank=2, seed=1)
    two = proj_in(tmp_path / "2.safetensors", "PEFT", conv=not conv, rank=3, seed=2)
    parts = [Part(one, 0.5), Part(two, -2.0)]
    out = tmp_path / "out.safetensors"
    density = Method(method, density=1.0) if method == "ties" else Method(method)
    report = merge_lora(parts, out, method=density)
    (layer,) = report.saved.file.layers
    # As in the first file.
    assert layer.factors.down.shape[2:] == ((1, 1) if conv else ())
    assert layer.factors.up.shape[2:] == layer.factors.down.shape[2:]
    if method == "sum":
        (update,) = wanted(parts).values()
        assert torch.allclose(dense(report.saved.file)[layer.key], update, atol=1e-5)


def test_another_kernel_is_refused(tmp_path):
    one = proj_in(tmp_path / "1.safetensors", "kohya", conv=False, rank=2, seed=1)
    stem = f"lora_unet_{PROJ.replace('.', '_')}"
    tensors = {
        f"{stem}.lora_up.weight": torch.randn(6, 2, 1, 1),
        f"{stem}.lora_down.weight": torch.randn(2, 5, 3, 3),
    }
    two = write(tmp_path / "2.safetensors", tensors)
    for parts in ([Part(one), Part(two)], [Part(two), Part(one)]):
        with pytest.raises(ModelError, match=r"has shape .* Use files of the same"):
            merge_lora(parts, tmp_path / "out.safetensors")


@pytest.mark.parametrize("zero", ["B", "A", "alpha"])
def test_files_of_zeros_do_not_cancel_out(tmp_path, zero):
    tensors = {
        key: torch.zeros_like(tensor)
        if {"B": "lora_up", "A": "lora_down", "alpha": "alpha"}[zero] in key
        else tensor
        for key, tensor in make().items()
    }
    file = write(tmp_path / "in.safetensors", tensors)
    path, out = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    report = merge_lora([Part(file), Part(file)], out)
    assert report.saved.remarks == ("All updates are 0, so the LoRA has no effect.",)
    assert (report.error, report.norm) == (0, 0)
    with pytest.raises(OptionError, match="--method norm: all updates are 0"):
        merge_lora([Part(file)], out, method=Method("norm"), overwrite=True)
    # One file with an effect is enough.
    other = write(tmp_path / "2.safetensors", make(seed=1))
    report = merge_lora([Part(file), Part(other)], out, overwrite=True)
    assert report.saved.remarks == ()
    for verb in (["resize", "--rank", "1"], ["convert", "--to", "peft"]):
        command = ["lora", verb[0], str(path), *verb[1:], "--output", str(out)]
        result = CliRunner().invoke(_commands.app, [*command, "--overwrite"])
        assert (result.exit_code, "All updates are 0" in result.stderr) == (0, True)
    result = CliRunner().invoke(_commands.app, ["lora", "inspect", str(path)])
    assert "All updates are 0" in result.output


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str
)
@pytest.mark.parametrize("method", ["sum", "norm", "ties"])
def test_no_factor_of_an_input_changes(tmp_path, dtype, method):
    """The factors are computed several times, so a change would add up."""
    one = write(tmp_path / "a.safetensors", make(dtype=dtype))
    two = write(tmp_path / "b.safetensors", make("PEFT", seed=1, dtype=dtype))
    before = [
        {key: tensor.clone() for key, tensor in file.tensors.items()}
        for file in (one, two)
    ]
    parts = [Part(one, -2.0), Part(two, 0.5)]
    sums = wanted(parts)
    out = tmp_path / "out.safetensors"
    target = Target(rank=2)
    report = merge_lora(parts, out, target, method=Method(method), dtype=torch.float32)
    for file, tensors in zip((one, two), before, strict=True):
        for key, tensor in tensors.items():
            assert torch.equal(file.tensors[key], tensor)
    if method == "sum":
        lost = 0.0
        for update in sums.values():
            sigma = torch.linalg.svdvals(update)
            lost += float(sigma[2:].square().sum())
        true = lost**0.5 / float(stack(sums).norm())
        assert report.error == pytest.approx(true, rel=1e-4)


def test_an_underflow_is_reported(tmp_path):
    """0.0001 of a unit of float16 is 0, and all updates would be gone."""
    file = write(tmp_path / "a.safetensors", make(dtype=torch.float16))
    out = tmp_path / "out.safetensors"
    report = merge_lora([Part(file, 1e-8)], out)
    (remark,) = report.saved.remarks
    assert remark.startswith("3 layers have factors that are too small for float16")
    assert report.error == pytest.approx(1)
    report = merge_lora([Part(file, 1e-8)], out, dtype=torch.float32, overwrite=True)
    assert report.saved.remarks == ()
    for dtype in (torch.float16, torch.bfloat16):
        report = merge_lora([Part(file, 0.3)], out, dtype=dtype, overwrite=True)
        assert report.saved.remarks == ()


def test_embeddings_of_all_files_are_kept(tmp_path):
    """Files of OneTrainer may contain embeddings, which no verb turned into a LoRA."""
    word, name = torch.randn(2, 4), "bundle_emb.word.clip_l"
    one = write(tmp_path / "a.safetensors", make() | {name: word})
    tensors = make("PEFT", seed=1) | {"bundle_emb.other.clip_l": torch.randn(1, 4)}
    two = write(tmp_path / "b.safetensors", tensors | {name: word.clone()})
    out = tmp_path / "out.safetensors"
    parts = [Part(one, 0.5), Part(two, -1.0), Part(one)]
    merged_file = merge_lora(parts, out).saved.file
    kept = {k: t for k, t in merged_file.tensors.items() if k.startswith("bundle_emb")}
    assert kept.keys() == {name, "bundle_emb.other.clip_l"}
    assert torch.equal(kept[name], word)
    assert len(merged_file.others) == 2
    third = write(tmp_path / "c.safetensors", make() | {name: word + 1})
    with pytest.raises(ModelError, match=f"different embeddings with the name {name}"):
        merge_lora([Part(one), Part(third)], out, overwrite=True)
    plain = write(tmp_path / "d.safetensors", make())
    assert compare_loras(one, plain).is_right
    base = tmp_path / "base.safetensors"
    stem = "model.diffusion_model.input_blocks.4.1.proj_in.weight"
    safetensors.torch.save_file({stem: torch.zeros(7, 6)}, base)
    few = {k: t for k, t in make().items() if "proj_in" in k} | {name: word}
    file = write(tmp_path / "e.safetensors", few)
    report = add_into_checkpoint(file, Checkpoint(base), tmp_path / "i.safetensors")
    assert report.remarks[0].startswith("1 embedding was omitted")

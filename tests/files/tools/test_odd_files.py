"""Unusual files and paths: the right value, or one message."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from helpers.lora_files import dense, make, write
from stiefel_lora import _commands
from stiefel_lora._exceptions import InputError, ModelError, OutputError
from stiefel_lora._weighted_path import parse_part
from stiefel_lora.files import (
    Target,
    convert_lora,
    inspect_lora,
    open_lora,
    resize_lora,
    verify_lora,
)
from stiefel_lora.files.tools.output_path import check_new_folder, check_output

STEM = "lora_unet_input_blocks_4_1_proj_in"


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pair(stem: str, outputs: int = 6, inputs: int = 8, kind: str = "kohya") -> dict:
    """Factors of rank 2."""
    up, down = {
        "kohya": (".lora_up.weight", ".lora_down.weight"),
        "peft": (".lora_B.weight", ".lora_A.weight"),
    }[kind]
    return {stem + up: rand(outputs, 2), stem + down: rand(2, inputs, seed=1)}


def run(*arguments: object):
    return CliRunner().invoke(_commands.app, ["lora", *map(str, arguments)])


def test_layers_of_several_families_are_named(tmp_path):
    """No family has all of them, so that there is no table for them."""
    tensors = {
        **pair(STEM),
        **pair("lora_unet_double_blocks_0_img_attn_qkv", 9),
        **pair("lora_unet_double_blocks_1_img_attn_qkv", 9),
    }
    file = write(tmp_path / "x.safetensors", tensors)
    assert file.family is None
    (remark,) = file.remarks
    assert "2 to FLUX.1, 1 to SDXL or SD 1.5." in remark
    assert remark in run("inspect", file.path).stdout
    assert write(tmp_path / "y.safetensors", make()).remarks == ()


@pytest.mark.parametrize("alpha", [1e300, -1e39])
def test_an_alpha_that_no_loader_can_apply(tmp_path, alpha):
    tensors = pair(STEM) | {f"{STEM}.alpha": torch.tensor(alpha, dtype=torch.float64)}
    with pytest.raises(ModelError, match="alpha must fit into float32"):
        write(tmp_path / "x.safetensors", tensors)


def test_a_large_alpha_is_kept(tmp_path):
    tensors = pair(STEM) | {f"{STEM}.alpha": torch.tensor(1e30)}
    file = write(tmp_path / "x.safetensors", tensors)
    report = resize_lora(file, tmp_path / "r.safetensors", Target(rank=1))
    sigma = torch.linalg.svdvals(dense(file)[file.layers[0].key])
    assert report.total_error == pytest.approx(float(sigma[1] / sigma.norm()))
    with pytest.raises(OutputError, match=r"exceeds the range of torch\.float16"):
        resize_lora(
            file, tmp_path / "h.safetensors", Target(rank=1), dtype=torch.float16
        )


def test_float64_beyond_float32_is_infinity_for_loaders(tmp_path):
    tensors = {key: tensor.double() for key, tensor in pair(STEM).items()}
    tensors[f"{STEM}.lora_up.weight"][0, 0] = 1e200
    file = write(tmp_path / "x.safetensors", tensors)
    assert inspect_lora(file).not_finite == (file.layers[0].name,)
    for verb in (("overlap", file.path, file.path), ("verify", file.path)):
        result = run(*verb)
        assert result.exit_code == 2
        assert "NaN or infinity in" in result.stderr


@pytest.mark.parametrize(
    "parts",
    [
        {"lora_mid.weight": rand(3)},
        {"lora_mid.weight": torch.tensor(1.0)},
        {"lora_mid.weight": rand(2, 2)},
        {"lora_down.weight": torch.tensor(1.0)},
        {"lora_up.weight": rand(6), "lora_down.weight": rand(8)},
        {"lora_up.weight": torch.zeros(6, 0), "lora_down.weight": torch.zeros(0, 8)},
        {"dora_scale": torch.tensor(1.0), "lora_up.weight": torch.tensor(1.0)},
    ],
)
def test_shapes_of_any_kind_are_one_message(tmp_path, parts):
    tensors = pair(STEM) | {f"{STEM}.{part}": tensor for part, tensor in parts.items()}
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file(tensors, path)
    result = run("resize", path, "--rank", 1, "--output", tmp_path / "r.safetensors")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{path}: ")


def test_a_name_that_is_too_long(tmp_path):
    path = tmp_path / "a.safetensors"
    write(path, make())
    long, nearly = tmp_path / ("n" * 300), tmp_path / ("n" * 250)
    for output in (long, nearly, long / "x"):
        with pytest.raises(OutputError, match=r"--output: .* File name too long"):
            check_output(output, [path], overwrite=False)
    with pytest.raises(OutputError, match="File name too long"):
        check_new_folder(long, [path])
    assert parse_part(f"{long}:a") == (Path(f"{long}:a"), 1.0)
    verbs = [
        ("inspect", long),
        ("inspect", path, "--html", long),
        ("merge", f"{long}:0.5", path, "--output", tmp_path / "m"),
        ("merge", path, "--into", long, "--output", tmp_path / "m"),
        ("extract", long, long, "--rank", 1, "--output", tmp_path / "m"),
        ("convert", path, "--to", "peft-folder", "--output", long),
    ]
    for verb in verbs:
        result = run(*verb)
        assert result.exit_code == 2, verb
        assert isinstance(result.exception, SystemExit)


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    """A stand-in for permissions, which do not bind the superuser."""

    def refused(self, *, follow_symlinks=True):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refused)
    with pytest.raises(OutputError, match="cannot be used: Permission denied"):
        check_output(tmp_path / "a.safetensors", [], overwrite=False)


def test_outputs_that_are_links(tmp_path):
    path = tmp_path / "a.safetensors"
    file = write(path, make())
    old, link = tmp_path / "old.safetensors", tmp_path / "link.safetensors"
    old.write_bytes(b"old")
    link.symlink_to(old)
    with pytest.raises(OutputError, match="already exists"):
        resize_lora(file, link, Target(rank=1))
    resize_lora(file, link, Target(rank=1), overwrite=True)
    # The link stays, and the file behind it is the new one.
    assert link.is_symlink()
    assert {x.stored_rank for x in open_lora(old).layers} == {1}
    before = path.read_bytes()
    same, hard = tmp_path / "same.safetensors", tmp_path / "hard.safetensors"
    same.symlink_to(path)
    os.link(path, hard)
    for output in (same, hard, path):
        with pytest.raises(OutputError, match="is an input file"):
            resize_lora(file, output, Target(rank=1), overwrite=True)
    assert path.read_bytes() == before


def test_large_metadata_is_kept_and_counts_for_the_size(tmp_path):
    notes = {"comment": "é" * 5_000_000}
    file = write(tmp_path / "x.safetensors", make(), **notes)
    report = resize_lora(file, tmp_path / "r.safetensors", Target(size=10.1))
    assert report.saved.file.metadata["comment"] == notes["comment"]
    assert report.saved.file.size <= 10.1e6
    with pytest.raises(InputError, match="Use a larger size"):
        resize_lora(file, tmp_path / "s.safetensors", Target(size=1))


def test_names_in_any_script(tmp_path):
    stem = "lora_unet_блок_é_0_😀"
    file = write(tmp_path / "x.safetensors", pair(stem))
    report = resize_lora(file, tmp_path / "r.safetensors", Target(rank=1))
    assert [layer.stem for layer in report.saved.file.layers] == [stem]


def test_fused_rows_that_cannot_be_split_are_a_result_of_verify(tmp_path):
    """Eight rows are no q, k and v of equal sizes."""
    stem = "diffusion_model.double_blocks.0.img_attn.qkv"
    file = write(tmp_path / "x.safetensors", pair(stem, 8, kind="peft"))
    assert file.family == "flux"
    result = run("resize", file.path, "--rank", 1, "--output", tmp_path / "r")
    assert result.exit_code == 0, result.stderr
    assert "rejects the file: " in result.stdout
    both = pair(stem, 9, kind="peft") | pair(
        "transformer.transformer_blocks.1.attn.to_q", 3, kind="peft"
    )
    mixed = write(tmp_path / "m.safetensors", both)
    problems = [check.problem for check in verify_lora(mixed)]
    assert any("both fused and separate layers" in problem for problem in problems)


def test_layers_of_flux_without_a_dot_in_their_name(tmp_path):
    """BFL's own LoRAs have img_in beside double_blocks, and no alpha."""
    tensors = {
        **pair("img_in", 8, 4, "peft"),
        **pair("double_blocks.0.img_attn.proj", 8, 8, "peft"),
    }
    file = write(tmp_path / "x.safetensors", tensors)
    assert (file.family, file.spelling) == ("flux", "original names")
    report = resize_lora(file, tmp_path / "r.safetensors", Target(rank=1))
    assert not [key for key in report.saved.file.tensors if key.endswith("alpha")]
    assert set(report.saved.file.tensors) == set(tensors)


def test_a_text_encoder_alone_keeps_its_family(tmp_path):
    """Its names in the PEFT format are those of several families."""
    stem = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    file = write(tmp_path / "x.safetensors", pair(stem))
    assert file.family == "sd15"
    saved = convert_lora(file, tmp_path / "p.safetensors", "PEFT")
    assert saved.file.family == "sd15"
    assert any(check.is_right for check in verify_lora(saved.file))


def test_the_shape_of_an_expanded_weight_is_kept(tmp_path):
    """ComfyUI pads a weight to it before it adds the LoRA."""
    shape = torch.tensor([6, 8])
    tensors = make() | {f"{STEM}.reshape_weight": shape}
    file = write(tmp_path / "x.safetensors", tensors)
    assert not file.unknown
    saved = resize_lora(file, tmp_path / "r.safetensors", Target(rank=1)).saved
    assert torch.equal(saved.file.tensors[f"{STEM}.reshape_weight"], shape)
    with pytest.raises(ModelError, match="is weight shape, which is only supported"):
        convert_lora(file, tmp_path / "p.safetensors", "PEFT")

"""Files that are broken, mixed or no LoRA: one error, or the right numbers."""

from __future__ import annotations

import os
import pickle
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from helpers.lora_files import dense, dense_of, make, stack, write
from stiefel_lora import _commands
from stiefel_lora._exceptions import ModelError, OptionError, OutputError
from stiefel_lora._weighted_path import parse_part
from stiefel_lora.files import (
    Checkpoint,
    Method,
    Part,
    Target,
    convert_lora,
    inspect_lora,
    merge_lora,
    open_lora,
    overlap,
    resize_lora,
    verify_lora,
)
from stiefel_lora.files.tools.inspection_page import inspection_page

STEM = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_{}"


def layer(
    leaf: str = "q", dtype: torch.dtype = torch.float32, seed: int = 0
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    stem = STEM.format(leaf)
    up, down = (torch.randn(s, generator=generator) for s in ((6, 2), (2, 5)))
    return {
        f"{stem}.lora_up.weight": up.to(dtype),
        f"{stem}.lora_down.weight": down.to(dtype),
    }


def run(*arguments: object):
    return CliRunner().invoke(_commands.app, ["lora", *map(str, arguments)])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (((0, 2), (2, 5)), r"must have at least one output"),
        (((6, 2), (2, 0)), r"must have at least one output"),
        (((6, 0), (0, 5)), r"The rank must be at least 1"),
    ],
)
def test_empty_factors_name_file_and_layer(tmp_path, sizes, message):
    stem = STEM.format("k")
    empty = {
        f"{stem}.lora_up.weight": torch.zeros(sizes[0]),
        f"{stem}.lora_down.weight": torch.zeros(sizes[1]),
    }
    with pytest.raises(ModelError, match=rf"a\.safetensors: {stem}: .*{message}"):
        write(tmp_path / "a.safetensors", make() | empty)


@pytest.mark.parametrize("part", ["lora_up.weight", "lora_down.weight", "dora_scale"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_every_verb_names_the_block_that_is_not_finite(tmp_path, part, value):
    tensors = layer() | layer("k", seed=1)
    key = f"{STEM.format('k')}.{part}"
    tensors[key] = tensors.get(key, torch.ones(6, 1)).clone()
    tensors[key][1, 0] = value
    file = write(tmp_path / "a.safetensors", tensors)
    good, out = write(tmp_path / "b.safetensors", layer()), tmp_path / "out.safetensors"
    message = r"a\.safetensors: NaN or infinity in unet\..*attn1\.to_k"
    for act in (
        lambda: convert_lora(file, out, "ComfyUI"),
        lambda: verify_lora(file),
        lambda: overlap(good, file),
    ):
        with pytest.raises(ModelError, match=message):
            act()
    if part != "dora_scale":
        for act in (
            lambda: resize_lora(file, out, Target(rank=1)),
            lambda: merge_lora([Part(good), Part(file)], out),
        ):
            with pytest.raises(ModelError, match=message):
                act()
    assert inspect_lora(file).total.not_finite == 1
    result = run("inspect", file.path)
    assert result.exit_code == 2
    assert "attn1.to_k. Use an earlier checkpoint" in result.stderr
    assert not out.exists()


def test_nan_in_an_adapter_of_another_kind_is_named(tmp_path):
    out = tmp_path / "out.safetensors"
    stem = STEM.format("v")
    loha = {f"{stem}.hada_w{n}_{x}": torch.ones(5, 5) for n in (1, 2) for x in "ab"}
    loha[f"{stem}.hada_w1_a"][0, 0] = float("nan")
    write(tmp_path / "a.safetensors", layer() | loha)
    result = run("inspect", tmp_path / "a.safetensors")
    assert result.exit_code == 2
    assert f"NaN or infinity in {stem}." in result.stderr
    assert f"NaN or infinity: {stem}" in result.stdout
    found = inspect_lora(open_lora(tmp_path / "a.safetensors"))
    assert found.to_json()["not_finite"] == [stem]
    assert f"NaN or infinity: {stem}" in inspection_page([found])
    result = run("resize", tmp_path / "a.safetensors", "--rank", 1, "--output", out)
    assert result.exit_code == 2
    assert f"NaN or infinity in {stem}." in result.stderr
    assert not out.exists()


@pytest.mark.parametrize("short", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("other", [torch.bfloat16, torch.float16, torch.float32])
def test_eight_bits_beside_wider_floats(tmp_path, short, other):
    file = write(tmp_path / "a.safetensors", layer(dtype=short) | layer("k", other, 1))
    half = layer(dtype=short)
    key = f"{STEM.format('q')}.lora_down.weight"
    half[key] = half[key].to(other)
    inside = write(tmp_path / "b.safetensors", half)
    for number, given in enumerate((file, inside)):
        exact = stack(dense(given))
        wanted = given.widest_dtype
        # Every float8 number is one of the wider kinds.
        for to in ("PEFT", "kohya", "ComfyUI"):
            out = tmp_path / f"{number}{to}.safetensors"
            saved = convert_lora(given, out, to)
            assert torch.equal(stack(dense(saved.file)), exact)
            assert {x.factors.up.dtype for x in saved.file.layers} == {wanted}
        twice = tmp_path / f"{number}twice.safetensors"
        double = merge_lora([Part(given), Part(given)], twice, dtype=torch.float32)
        found = stack(dense(double.saved.file))
        assert torch.allclose(found, 2 * exact, rtol=1e-6, atol=1e-6)
        assert overlap(given, given).total.cosine == pytest.approx(1)
        assert all(check.deviation < 1e-6 for check in verify_lora(given))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ('{"a"', "adapter settings are not valid: "),
        ("[]", "is not a JSON object. Create"),
        ('{"unet.r": 4, "unet.lora_alpha": null}', "settings have no alpha"),
        ('{"unet.r": 4, "unet.alpha_pattern": [1]}', "settings have no alpha"),
        ('{"unet.r": 4, "unet.alpha_pattern": {"(": 2}}', "settings have no alpha"),
    ],
)
def test_broken_adapter_settings(tmp_path, metadata, message):
    with pytest.raises(ModelError, match=rf"a\.safetensors: .*{message}"):
        write(tmp_path / "a.safetensors", make("PEFT"), lora_adapter_metadata=metadata)


def test_other_metadata_that_is_no_json_does_no_harm(tmp_path):
    texts = {"ss_tag_frequency": "{no", "ss_network_args": "[1", "ss_datasets": '"x"'}
    file = write(tmp_path / "a.safetensors", make(), **texts, ss_network_dim="abc")
    assert inspect_lora(file).total.layers == 3
    saved = resize_lora(file, tmp_path / "out.safetensors", Target(rank=1)).saved
    assert {k: saved.file.metadata[k] for k in texts} == texts
    assert saved.file.metadata["ss_network_dim"] == "1"


class _Touch:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.mark.parametrize("name", ["a.pt", "a.ckpt", "a.safetensors"])
@pytest.mark.parametrize("protocol", [2, 4, None])
def test_a_pickle_is_not_opened(tmp_path, name, protocol):
    path, mark = tmp_path / name, tmp_path / "mark"
    if protocol is None:
        torch.save({"x": _Touch(str(mark))}, path)
    else:
        path.write_bytes(pickle.dumps(_Touch(str(mark)), protocol))
    for act in (open_lora, Checkpoint):
        with pytest.raises(ModelError, match=r"is a pickle file of torch\.save"):
            act(path)
    assert not mark.exists()


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480, 0x580])
def test_a_header_whose_length_resembles_a_pickle_is_read(tmp_path, length):
    path = tmp_path / "a.safetensors"
    save_file(layer(), path)
    data = path.read_bytes()
    old = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + old].ljust(length)
    path.write_bytes(struct.pack("<Q", length) + header + data[8 + old :])
    assert path.read_bytes()[:1] == b"\x80"
    assert len(open_lora(path).layers) == 1


@pytest.mark.parametrize("length", [2**31, 2**63, 10**6])
def test_a_header_longer_than_the_file_is_not_read(tmp_path, length):
    path = tmp_path / "a.safetensors"
    save_file(make(), path)
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    with pytest.raises(ModelError, match="is damaged or not a safetensors file"):
        open_lora(path)


def test_a_folder_as_output_or_input(tmp_path):
    file = write(tmp_path / "a.safetensors", make())
    (tmp_path / "folder").mkdir()
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"is a folder\. Use a file such as"):
            resize_lora(file, tmp_path / "folder", Target(rank=1), overwrite=overwrite)
    with pytest.raises(OutputError, match="could not be written"):
        resize_lora(file, file.path / "x.safetensors", Target(rank=1))
    assert run("inspect", tmp_path / "folder").exit_code == 2


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_an_output_that_is_the_input_by_another_name(tmp_path, link):
    file = write(tmp_path / "a.safetensors", make())
    data = file.path.read_bytes()
    link(file.path, tmp_path / "b.safetensors")
    out = tmp_path / "b.safetensors"
    for act in (
        lambda: resize_lora(file, out, Target(rank=1), overwrite=True),
        lambda: merge_lora([Part(file)], out, overwrite=True),
        lambda: convert_lora(file, out, "PEFT", overwrite=True),
    ):
        with pytest.raises(OutputError, match="is an input"):
            act()
    assert file.path.read_bytes() == data


def test_colons_and_other_letters_in_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file(make(), "a.safetensors")
    names = ["größe 日本.safetensors", "a:b.safetensors", "style:0.7"]
    for name in names:
        shutil.copy("a.safetensors", name)
        assert parse_part(name) == (Path(name), 1.0)
        assert parse_part(f"{name}:0.5") == (Path(name), 0.5)
    assert parse_part(r"C:\x.safetensors:0.5") == (Path(r"C:\x.safetensors"), 0.5)
    assert parse_part(r"C:\x.safetensors") == (Path(r"C:\x.safetensors"), 1.0)
    assert parse_part("x" * 5000 + ":2") == (Path("x" * 5000), 2.0)
    for weight in ("", "70%", "0,7", "nan"):
        with pytest.raises(
            OptionError, match=r"is not a finite number\. Use a number such as"
        ):
            parse_part(f"a.safetensors:{weight}")
    saved = merge_lora([Part(open_lora(names[0]), 0.5)], "ñ.safetensors").saved
    exact = stack(dense(open_lora("a.safetensors")))
    assert torch.allclose(stack(dense(saved.file)), 0.5 * exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("weight", [1.0, -0.5])
def test_files_that_cancel_out(tmp_path, weight):
    file, out = write(tmp_path / "a.safetensors", make()), tmp_path / "out.safetensors"
    parts = [Part(file, weight), Part(file, -weight)]
    report = merge_lora(parts, out)
    assert report.norm < 1e-6
    assert report.error < 1e-6
    assert report.saved.deviation < 1e-6
    assert "cancel out. Their sum is 0" in report.saved.remarks[-1]
    assert len(report.saved.remarks) == 1
    assert float(stack(dense(report.saved.file)).norm()) < 1e-6
    with pytest.raises(OptionError, match="their sum cannot be scaled"):
        merge_lora(parts, out, method=Method("norm"), overwrite=True)
    ordinary = merge_lora([Part(file, weight), Part(file, weight)], out, overwrite=True)
    assert not any("cancel" in remark for remark in ordinary.saved.remarks)
    found, exact = stack(dense(ordinary.saved.file)), stack(dense(file))
    assert torch.allclose(found, 2 * weight * exact, rtol=1e-5, atol=1e-6)


def test_no_lora_to_resize(tmp_path):
    stem = STEM.format("v")
    loha = {f"{stem}.hada_w{n}_{x}": torch.ones(5, 5) for n in (1, 2) for x in "ab"}
    write(tmp_path / "a.safetensors", loha)
    out = tmp_path / "out.safetensors"
    result = run("resize", tmp_path / "a.safetensors", "--rank", 1, "--output", out)
    assert result.exit_code == 2
    assert "the adapters are LoHa, not LoRA" in result.stderr
    assert not out.exists()


def test_an_encoder_that_families_share_has_its_dotted_name(tmp_path):
    stem = "lora_te1_text_model_encoder_layers_3_mlp_fc1"
    ends = (".lora_up.weight", ".lora_down.weight")
    tensors = dict(zip([stem + end for end in ends], layer().values(), strict=True))
    file = write(tmp_path / "a.safetensors", tensors)
    assert file.family is None
    name = "text_encoder.text_model.encoder.layers.3.mlp.fc1"
    assert [x.name for x in file.layers] == [name]
    saved = convert_lora(file, tmp_path / "b.safetensors", "PEFT")
    assert [x.stem for x in saved.file.layers] == [name]
    back = convert_lora(saved.file, tmp_path / "c.safetensors", "kohya").file
    assert [x.stem for x in back.layers] == [stem]
    assert torch.equal(dense_of(back.layers[0].factors), stack(dense(file)).view(6, 5))


def test_settings_that_are_nested_too_deeply(tmp_path):
    deep = "[" * 100_000
    write(tmp_path / "a.safetensors", layer(), ss_tag_frequency=deep)
    assert run("inspect", tmp_path / "a.safetensors").exit_code == 0
    save_file(layer(), tmp_path / "b.safetensors", {"lora_adapter_metadata": deep})
    with pytest.raises(ModelError, match="adapter settings"):
        open_lora(tmp_path / "b.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "x.safetensors.index.json").write_text(deep)
    with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
        Checkpoint(folder)

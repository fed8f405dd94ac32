"""Numbers that the LoRA tools print: errors, dtypes and limits are the true ones."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from helpers.lora_files import dense, make, write
from stiefel_lora import _commands
from stiefel_lora._exceptions import ModelError, OptionError
from stiefel_lora.files import (
    Checkpoint,
    Part,
    Rank,
    Target,
    add_into_checkpoint,
    convert_lora,
    merge_lora,
    open_lora,
)
from stiefel_lora.files import resize_lora as resize
from stiefel_lora.files.tools.sections import parse_sections
from stiefel_lora.files.tools.verifying import compare_loras
from stiefel_lora.files.tools.widest_dtype import widest_dtype

LDM = "model.diffusion_model.input_blocks.4.1."
SGM = "lora_unet_input_blocks_4_1_"
STEM = f"{SGM}proj_in"
SDXL = {"ss_base_model_version": "sdxl_base_v1-0"}
run = CliRunner().invoke


def _base(path: Path, value: float, dtype: torch.dtype) -> Checkpoint:
    tensors = {
        f"{LDM}proj_in.weight": torch.full((7, 6), value).to(dtype),
        f"{LDM}proj_out.weight": torch.ones(7, 6).to(dtype),
    }
    safetensors.torch.save_file(tensors, path)
    return Checkpoint(path)


def _factors(*names: str, size: float = 1e-3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    found = {}
    for name in names:
        up, down = torch.randn(7, 2, generator=generator), torch.randn(2, 6)
        found[f"{SGM}{name}.lora_up.weight"] = up * size
        found[f"{SGM}{name}.lora_down.weight"] = down * size
    return found


@pytest.mark.parametrize(
    ("value", "dtype", "size"),
    [
        (100.0, torch.float32, 4e-3),
        (100.0, torch.float32, 1e-2),
        (3.0, torch.float32, 1e-3),
        (100.0, torch.bfloat16, 0.5),
        (1.0, torch.float16, 0.02),
    ],
)
def test_the_error_of_a_checkpoint_is_the_true_one(tmp_path, value, dtype, size):
    base = _base(tmp_path / "base.safetensors", value, dtype)
    tensors = _factors("proj_in", size=size)
    file = write(tmp_path / "a.safetensors", tensors, **SDXL)
    report = add_into_checkpoint(file, base, tmp_path / "out.safetensors")
    key = f"{LDM}proj_in.weight"
    stored = safetensors.torch.load_file(tmp_path / "out.safetensors")[key]
    before = safetensors.torch.load_file(tmp_path / "base.safetensors")[key]
    (update,) = dense(file).values()
    lost = stored.double() - before.double() - update
    assert report.error == pytest.approx(float(lost.norm() / update.norm()), rel=1e-9)
    assert report.error > 1e-7
    assert report.layers == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
def test_updates_that_are_rounded_away_are_not_zero(tmp_path, dtype):
    base = _base(tmp_path / "base.safetensors", 100.0, dtype)
    file = write(tmp_path / "a.safetensors", _factors("proj_in", size=1e-5), **SDXL)
    report = add_into_checkpoint(file, base, tmp_path / "out.safetensors")
    assert report.error == pytest.approx(1.0, abs=0.01)
    assert report.layers == 0
    (remark,) = report.remarks
    assert remark.startswith("1 weight did not change, because their updates are below")
    assert str(dtype).removeprefix("torch.") in remark


def test_only_weights_that_change_are_counted(tmp_path):
    base = _base(tmp_path / "base.safetensors", 100.0, torch.float32)
    tensors = _factors("proj_in", size=1e-5) | _factors("proj_out", size=0.1)
    file = write(tmp_path / "a.safetensors", tensors, **SDXL)
    report = add_into_checkpoint(file, base, tmp_path / "out.safetensors")
    assert report.layers == 1
    assert len(report.remarks) == 1
    dead = {k: t * (0 if "up" in k else 1) for k, t in tensors.items()}
    file = write(tmp_path / "dead.safetensors", dead, **SDXL)
    report = add_into_checkpoint(file, base, tmp_path / "out2.safetensors")
    (remark,) = report.remarks
    assert remark.startswith("All updates are 0")
    assert report.layers == 0


@pytest.mark.parametrize(
    ("up", "down", "wanted"),
    [
        ("float16", "float32", "float32"),
        ("float32", "float16", "float32"),
        ("bfloat16", "float16", "float32"),
        ("float8_e4m3fn", "bfloat16", "bfloat16"),
        ("float8_e4m3fn", "float8_e5m2", "float16"),
        ("float16", "float16", "float16"),
    ],
)
def test_the_dtype_holds_both_factors(tmp_path, up, down, wanted):
    kinds = {"lora_up": getattr(torch, up), "lora_down": getattr(torch, down)}
    tensors = make()
    for key in tensors:
        for name, kind in kinds.items():
            if name in key:
                tensors[key] = tensors[key].to(kind)
    file = write(tmp_path / "a.safetensors", tensors)
    assert file.widest_dtype == getattr(torch, wanted)
    same = convert_lora(file, tmp_path / "c.safetensors", "kohya")
    assert same.deviation == 0
    stored = safetensors.torch.load_file(tmp_path / "c.safetensors")
    for key, tensor in tensors.items():
        assert torch.equal(stored[key].double(), tensor.double())
    if wanted == "float32":
        assert merge_lora([Part(file)], tmp_path / "m.safetensors").error < 1e-6
        resize(file, tmp_path / "r.safetensors", Target(rank=4))
        assert torch.allclose(
            dense(open_lora(tmp_path / "r.safetensors"))[file.layers[0].key],
            dense(file)[file.layers[0].key],
            atol=1e-5,
        )


def test_the_widest_of_several_dtypes():
    eight = (torch.float8_e4m3fn, torch.float8_e5m2)
    assert widest_dtype([]) == torch.float32
    assert widest_dtype([torch.int64, torch.float16]) == torch.float16
    assert widest_dtype(eight) == torch.float16
    assert widest_dtype([eight[0]]) == eight[0]
    assert widest_dtype([*eight, torch.bfloat16]) == torch.bfloat16
    assert widest_dtype([torch.bfloat16, torch.float16]) == torch.float32
    assert widest_dtype([torch.float64, torch.float16]) == torch.float64


def test_the_last_section_pattern_counts_also_if_repeated(tmp_path):
    texts = ["1:*=0.5", "1:down_blocks.*=0.2", "2:*=3", "1:*=1"]
    found = parse_sections(texts, 2)
    assert list(found[0].items()) == [("down_blocks.*", 0.2), ("*", 1.0)]
    assert found[1] == {"*": 3.0}
    write(tmp_path / "a.safetensors", make())
    for order, factor in (
        (["*=0.5", "down_blocks.*=0.2", "*=1"], 1.0),
        (["*=1", "down_blocks.*=0.2"], 0.2),
        (["down_*=7", "*=1", "down_*=0.3"], 0.3),
    ):
        sections = [word for text in order for word in ("--section", f"1:{text}")]
        out = tmp_path / "out.safetensors"
        command = ["lora", "merge", str(tmp_path / "a.safetensors"), *sections]
        command += ["--output", str(out), "--overwrite", "--no-verify"]
        assert run(_commands.app, command).exit_code == 0
        one, two = (
            dense(open_lora(tmp_path / f"{n}.safetensors")) for n in ("a", "out")
        )
        for key, update in one.items():
            assert torch.allclose(two[key], factor * update, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "bfloat16", "float16", "float32"])
@pytest.mark.parametrize("factor", [1.1, 1.007, 0.998])
def test_another_strength_is_no_rounding(tmp_path, dtype, factor):
    kind = getattr(torch, dtype)
    tensors = make(dtype=kind, alphas=(2.8, 3.0, 0.9))
    other = {k: t * factor if k.endswith("alpha") else t for k, t in tensors.items()}
    file = write(tmp_path / "a.safetensors", tensors)
    wrong = write(tmp_path / "b.safetensors", other)
    for one, two in ((file, wrong), (wrong, file)):
        check = compare_loras(one, two)
        assert not check.is_right
        assert check.deviation == pytest.approx(abs(factor - 1), rel=0.2)
    if (dtype, factor) == ("float8_e4m3fn", 1.1):
        command = ["lora", "verify", str(wrong.path), "--against", str(file.path)]
        assert run(_commands.app, command).exit_code == 2
    # Multiplied into A, the factor is more than the rounding of A, too.
    saved = convert_lora(wrong, tmp_path / "p.safetensors", "PEFT").file
    assert not compare_loras(saved, file).is_right
    assert compare_loras(saved, wrong).is_right
    right = convert_lora(file, tmp_path / "q.safetensors", "PEFT").file
    assert compare_loras(right, file).is_right
    assert compare_loras(file, right).is_right


def test_a_file_in_a_narrower_dtype_is_its_rounding(tmp_path):
    file = write(tmp_path / "a.safetensors", make())
    for dtype in (torch.bfloat16, torch.float16):
        saved = convert_lora(
            file, tmp_path / "b.safetensors", "PEFT", dtype=dtype, overwrite=True
        ).file
        assert compare_loras(saved, file).is_right


@pytest.mark.parametrize("factor", [1e-60, 1e-45, 1e-40])
@pytest.mark.parametrize("files", [1, 2])
def test_a_sum_that_is_too_small_does_not_cancel_out(tmp_path, factor, files):
    parts = [
        Part(write(tmp_path / f"{n}.safetensors", make(seed=n)), factor)
        for n in range(files)
    ]
    report = merge_lora(parts, tmp_path / "out.safetensors")
    text = " ".join(report.saved.remarks)
    assert "too small for float32" in text
    assert "cancel out" not in text
    assert "All updates are 0" not in text
    if factor < 1e-50:
        assert report.error == 1


def test_files_that_cancel_out_still_do(tmp_path):
    file = write(tmp_path / "a.safetensors", make())
    report = merge_lora([Part(file), Part(file, -1.0)], tmp_path / "out.safetensors")
    assert any("cancel out" in remark for remark in report.saved.remarks)


@pytest.mark.parametrize("value", [1.5, 1.0000001, -0.1, math.nan, math.inf])
def test_an_energy_outside_of_0_to_1_is_refused(value):
    with pytest.raises(OptionError, match=r"--energy: must be between 0 and 1"):
        Target(energy=value)


def test_all_of_the_energy_keeps_the_ranks(tmp_path):
    file = write(tmp_path / "a.safetensors", make())
    report = resize(file, tmp_path / "out.safetensors", Target(energy=1.0))
    assert report.total_error < 1e-6
    for name in ("error", "total_error"):
        with pytest.raises(OptionError, match="must be between 0 and 1"):
            Target(**{name: 1.0})


def _with_header(path: Path, change) -> Path:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, content = json.loads(data[8 : 8 + size]), data[8 + size :]
    content = change(header, content) or content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    return path


def test_metadata_that_is_null_is_none(tmp_path):
    path = tmp_path / "a.safetensors"
    write(path, make())
    _with_header(path, lambda header, _: header.update(__metadata__=None))
    file = open_lora(path)
    assert dict(file.metadata) == {}
    assert run(_commands.app, ["lora", "inspect", str(path)]).exit_code == 0
    resize(file, tmp_path / "r.safetensors", Target(rank=1))
    convert_lora(file, tmp_path / "c.safetensors", "PEFT")
    # Other values are refused by safetensors.
    _with_header(path, lambda header, _: header.update(__metadata__={"a": 1}))
    with pytest.raises(ModelError, match="damaged"):
        open_lora(path)


@pytest.mark.parametrize("code", ["F8_E8M0", "U16", "C64"])
def test_an_unsupported_dtype_is_named(tmp_path, code):
    path = tmp_path / "a.safetensors"
    write(path, make())
    size = {"F8_E8M0": 1, "U16": 2, "C64": 8}[code] * 8

    def change(header, content):
        ends = [len(content), len(content) + size]
        header["x.y"] = {"dtype": code, "shape": [8], "data_offsets": ends}
        return content + bytes(size)

    _with_header(path, change)
    with pytest.raises(ModelError, match=rf"x.y has the unsupported dtype {code}. Use"):
        open_lora(path)
    with pytest.raises(ModelError, match=rf"x.y has the unsupported dtype {code}. Use"):
        Checkpoint(path)


ODD = {
    "LoHa with two alphas": {
        **{f".hada_w{n}_a": (7, 2) for n in (1, 2)},
        **{f".hada_w{n}_b": (2, 6) for n in (1, 2)},
        ".alpha": (2,),
    },
    "LoKr with two alphas": {
        ".lokr_w1": (1, 1),
        ".lokr_w2_a": (7, 2),
        ".lokr_w2_b": (2, 6),
        ".alpha": (2,),
    },
    "empty difference": {".diff": (0, 4)},
    "empty LoHa": {
        **{f".hada_w{n}_a": (7, 0) for n in (1, 2)},
        **{f".hada_w{n}_b": (0, 6) for n in (1, 2)},
    },
    "empty LoKr": {".lokr_w1": (0, 1), ".lokr_w2": (7, 6)},
}


@pytest.mark.parametrize("kind", ODD)
def test_an_adapter_that_cannot_be_computed_is_named(tmp_path, kind):
    tensors = {f"{STEM}{key}": torch.ones(shape) for key, shape in ODD[kind].items()}
    file = write(tmp_path / "a.safetensors", tensors)
    words = "alpha must be one number" if "two" in kind else "has no values"
    with pytest.raises(ModelError, match=rf"a.safetensors: {STEM}.*{words}"):
        convert_lora(file, tmp_path / "o.safetensors", "kohya", goal=Rank(2))
    assert not (tmp_path / "o.safetensors").exists()


@pytest.mark.parametrize("alpha", [False, True], ids=["PEFT", "kohya"])
@pytest.mark.parametrize("size", [0.05, 0.06])
def test_a_size_is_used_up_to_the_names(tmp_path, alpha, size):
    """The settings of peft in a file depend on the ranks, and are no large reserve."""
    tensors, layers = {}, 60
    generator = torch.Generator().manual_seed(0)
    for block in range(layers):
        stem = f"unet.down_blocks.1.attentions.0.transformer_blocks.{block}.attn1.to_q"
        names = ("lora_B", "lora_A")
        if alpha:
            stem = f"{SGM}transformer_blocks_{block}_attn1_to_q"
            names = ("lora_up", "lora_down")
            tensors[f"{stem}.alpha"] = torch.tensor(4.0)
        strength = torch.logspace(0, -2, 8) * (1 + block)
        up = torch.randn(64, 8, generator=generator) * strength
        tensors[f"{stem}.{names[0]}.weight"] = up.half()
        down = torch.randn(8, 64, generator=generator).half()
        tensors[f"{stem}.{names[1]}.weight"] = down
    file = write(tmp_path / "in.safetensors", tensors, **SDXL)
    out = tmp_path / "out.safetensors"
    with pytest.raises(OptionError, match="rank 1 in all 60 layers already requires"):
        resize(file, out, Target(size=0.02))
    resize(file, out, Target(size=size))
    left = size * 1e6 - out.stat().st_size
    assert 0 <= left < 35 * layers

"""No command changes an input, loses a tensor, or replaces a file by a bad one."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from helpers.lora_files import make, write
from stiefel_lora._exceptions import ModelError, OutputError
from stiefel_lora.files import (
    Checkpoint,
    Part,
    Rank,
    Target,
    add_into_checkpoint,
    convert_lora,
    extract_lora,
    merge_lora,
    open_lora,
)
from stiefel_lora.files import resize_lora as resize
from stiefel_lora.files.tools import converting
from stiefel_lora.files.tools.accounting import check_all_written

LDM = "model.diffusion_model.input_blocks.4.1."
OWN = "down_blocks.1.attentions.0."
STEM = "lora_unet_input_blocks_4_1_proj_in"


def _base(path: Path, seed: int = 0, start: str = LDM) -> Path:
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "proj_in": (7, 6),
        "transformer_blocks.0.attn1.to_q": (5, 5),
        "transformer_blocks.1.ff.net.2": (6, 9),
    }
    tensors = {
        f"{start}{name}.weight": torch.randn(*shape, generator=generator)
        for name, shape in shapes.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(tensors, path)
    return path


def _verbs(folder: Path) -> dict:
    """Each verb with the inputs that it reads."""
    one, two = folder / "a.safetensors", folder / "b.safetensors"
    write(one, make())
    write(two, make(seed=1))
    base, tuned = _base(folder / "base.safetensors"), _base(folder / "t.safetensors", 1)
    parts = [Part(open_lora(one)), Part(open_lora(two))]
    return {
        "resize": (
            [one],
            lambda out: resize(open_lora(one), out, TO_1, overwrite=True),
        ),
        "convert": (
            [one, base],
            lambda out: convert_lora(
                open_lora(one), out, "PEFT", base=Checkpoint(base), overwrite=True
            ),
        ),
        "merge": ([one, two], lambda out: merge_lora(parts, out, overwrite=True)),
        "into": (
            [one, base],
            lambda out: add_into_checkpoint(
                open_lora(one), Checkpoint(base), out, overwrite=True
            ),
        ),
        "extract": (
            [base, tuned],
            lambda out: extract_lora(
                *(Checkpoint(base), Checkpoint(tuned), out, Rank(1)), overwrite=True
            ),
        ),
    }


TO_1 = Target(rank=1)


@pytest.mark.parametrize("verb", ["resize", "convert", "merge", "into", "extract"])
def test_no_input_of_a_verb_is_replaced(tmp_path: Path, verb: str):
    inputs, call = _verbs(tmp_path)[verb]
    before = {path: path.read_bytes() for path in inputs}
    for given in inputs:
        link, hard = tmp_path / "link.safetensors", tmp_path / "hard.safetensors"
        link.symlink_to(given)
        os.link(given, hard)
        for out in (given, link, hard, tmp_path / "no" / ".." / given.name):
            with pytest.raises(OutputError, match=r"is an input file, which is never"):
                call(out)
        assert link.is_symlink()
        link.unlink()
        hard.unlink()
    assert before == {path: path.read_bytes() for path in inputs}
    call(tmp_path / "out.safetensors")


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_the_files_behind_links_of_an_input_folder_are_kept(tmp_path: Path, linked):
    """Folders of the download cache contain links to files elsewhere."""
    blob = _base(tmp_path / "blobs" / "x.safetensors", start=OWN)
    unet = tmp_path / "model" / "unet"
    if linked == "file":
        unet.mkdir(parents=True)
        (unet / "diffusion_pytorch_model.safetensors").symlink_to(blob)
    else:
        unet.parent.mkdir()
        unet.symlink_to(blob.parent)
    before = blob.read_bytes()
    file = write(tmp_path / "a.safetensors", make())
    base = Checkpoint(tmp_path / "model")
    outs = [blob, tmp_path / "model" / "new.safetensors"]
    outs += [blob.parent / "new.safetensors"] if linked == "folder" else []
    for out in outs:
        with pytest.raises(OutputError, match=r"of the input folder|in the input"):
            convert_lora(file, out, "PEFT", base=base, overwrite=True)
    assert blob.read_bytes() == before
    assert [path.name for path in blob.parent.iterdir()] == [blob.name]


def test_nothing_is_written_into_the_folder_of_a_lora(tmp_path: Path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    write(folder / "pytorch_lora_weights.safetensors", make("PEFT"))
    given = open_lora(folder)
    for out in (folder / "new.safetensors", folder / "deep" / "new.safetensors"):
        with pytest.raises(OutputError, match=r"is in the input folder"):
            resize(given, out, TO_1)
    # The file alone is not a folder that is read.
    alone = open_lora(folder / "pytorch_lora_weights.safetensors")
    resize(alone, folder / "new.safetensors", TO_1)


def test_the_base_of_a_conversion_is_in_the_lineage(tmp_path: Path):
    base = Checkpoint(_base(tmp_path / "base.safetensors"))
    file = write(tmp_path / "a.safetensors", make())
    saved = convert_lora(file, tmp_path / "o.safetensors", "PEFT", base=base)
    lineage = json.loads(saved.file.metadata["stiefel_lora_lineage"])
    names = [parent["name"] for parent in lineage["parents"]]
    assert names == ["a.safetensors", "base.safetensors"]


OTHERS = {
    "LoHa": {
        ".hada_w1_a": (7, 2),
        ".hada_w1_b": (2, 6),
        ".hada_w2_a": (7, 2),
        ".hada_w2_b": (2, 6),
    },
    "LoKr": {".lokr_w1": (1, 1), ".lokr_w2_a": (7, 2), ".lokr_w2_b": (2, 6)},
    "difference": {".diff": (7, 6), ".diff_b": (7,)},
    "norm": {".w_norm": (7,), ".b_norm": (7,)},
    "bias": {".lora_up.bias": (7,), ".lora_B.bias": (7,)},
    "two kinds": {".diff": (7, 6), ".diff_b": (7,), ".w_norm": (7,), ".b_norm": (7,)},
    "OFT": {".oft_blocks": (1, 7, 7), ".oft_diag": (1, 7, 7)},
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("beside", [True, False], ids=["beside a LoRA", "alone"])
def test_resize_keeps_all_tensors_of_other_adapters(tmp_path: Path, kind, beside):
    stem = STEM if beside else f"{STEM}_2"
    shapes = {f"{stem}{suffix}": shape for suffix, shape in OTHERS[kind].items()}
    extra = {key: torch.randn(shape) for key, shape in shapes.items()}
    file = write(tmp_path / "in.safetensors", make() | extra)
    resize(file, tmp_path / "out.safetensors", TO_1)
    found = safetensors.torch.load_file(tmp_path / "out.safetensors")
    assert extra.keys() <= found.keys()
    for key, tensor in extra.items():
        assert torch.equal(found[key], tensor)
    assert make().keys() <= found.keys()


def test_convert_of_two_adapters_on_a_layer_is_refused(tmp_path: Path):
    shapes = OTHERS["LoHa"].items()
    extra = {f"{STEM}{suffix}": torch.randn(shape) for suffix, shape in shapes}
    file = write(tmp_path / "in.safetensors", make() | extra)
    with pytest.raises(ModelError, match="as another adapter, of which loaders apply"):
        convert_lora(file, tmp_path / "o.safetensors", "kohya", goal=Rank(2))
    assert not (tmp_path / "o.safetensors").exists()


def test_the_writer_accounts_for_everything_that_was_read(tmp_path: Path):
    """Whatever a verb forgets, known or new, is found before anything is written."""
    extra = {f"{STEM}.w_norm": torch.ones(7), f"{STEM}.b_norm": torch.ones(7)}
    file = write(tmp_path / "in.safetensors", make() | extra)
    fewer = dataclasses.replace(file, layers=file.layers[1:])
    with pytest.raises(OutputError, match=r"proj_in would be lost in the output"):
        check_all_written([file], fewer)
    check_all_written([file], fewer, {file.layers[0].key})
    bare = dataclasses.replace(file, others=())
    with pytest.raises(OutputError, match=r"w_norm and 1 more would be lost|b_norm"):
        check_all_written([file], bare)
    check_all_written([file], bare, extra)


def test_a_verb_that_loses_a_layer_writes_nothing(tmp_path: Path, monkeypatch):
    file = write(tmp_path / "in.safetensors", make())
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"old")
    real = converting.converted

    def forgetful(*arguments, **options):
        found = real(*arguments, **options)
        return dataclasses.replace(found, layers=found.layers[:-1])

    monkeypatch.setattr(converting, "converted", forgetful)
    with pytest.raises(OutputError, match="would be lost in the output"):
        convert_lora(file, out, "PEFT", overwrite=True)
    assert out.read_bytes() == b"old"


def test_a_weight_of_0_leaves_layers_out_on_purpose(tmp_path: Path):
    file = write(tmp_path / "in.safetensors", make())
    other = {k.replace("proj_in", "proj_out"): t for k, t in make(seed=1).items()}
    parts = [Part(file), Part(write(tmp_path / "b.safetensors", other), 0.0)]
    report = merge_lora(parts, tmp_path / "out.safetensors")
    assert len(report.saved.file.layers) == 3


@pytest.mark.parametrize(
    "extra",
    [
        {f"{STEM}.diff_b": torch.ones(7)},
        {f"{STEM}.w_norm": torch.ones(7), f"{STEM}.b_norm": torch.ones(7)},
    ],
    ids=["bias", "norm"],
)
def test_a_conversion_to_nothing_keeps_the_old_file(tmp_path: Path, extra):
    out = tmp_path / "out.safetensors"
    write(out, make())
    before = out.read_bytes()
    file = write(tmp_path / "in.safetensors", extra)
    with pytest.raises(ModelError, match=r"in.safetensors contains nothing that can"):
        convert_lora(file, out, "kohya", goal=Rank(2), overwrite=True)
    assert out.read_bytes() == before
    with pytest.raises(ModelError, match=r"in.safetensors contains nothing that can"):
        convert_lora(file, tmp_path / "new.safetensors", "kohya", goal=Rank(2))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["in.safetensors", "out.safetensors"]


def test_a_file_that_does_not_read_back_replaces_nothing(tmp_path: Path, monkeypatch):
    from stiefel_lora.files.tools import save_lora

    out = tmp_path / "out.safetensors"
    out.write_bytes(b"old")
    file = write(tmp_path / "in.safetensors", make())

    def broken(path):
        raise ModelError(f"{path}: a layer is incomplete.")

    monkeypatch.setattr(save_lora, "open_lora", broken)
    with pytest.raises(OutputError, match=r"out.safetensors: a layer is incomplete"):
        resize(file, out, TO_1, overwrite=True)
    assert out.read_bytes() == b"old"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["in.safetensors", "out.safetensors"]


@pytest.mark.parametrize("extra", ["lora_A", "lora_B", "both"])
def test_a_factor_with_two_names_keeps_the_name_of_its_pair(tmp_path: Path, extra):
    """Loaders ignore a ``lora_A`` beside a ``lora_up``."""
    tensors = make()
    copies = {
        "lora_A": tensors[f"{STEM}.lora_down.weight"],
        "lora_B": tensors[f"{STEM}.lora_up.weight"],
    }
    names = copies if extra == "both" else [extra]
    tensors |= {f"{STEM}.{name}.weight": copies[name].clone() for name in names}
    file = write(tmp_path / "in.safetensors", tensors)
    saved = resize(file, tmp_path / "out.safetensors", TO_1).saved
    stored = safetensors.torch.load_file(tmp_path / "out.safetensors")
    own = {key.removeprefix(f"{STEM}.") for key in stored if STEM in key}
    pairs = ({"lora_A.weight", "lora_B.weight"}, {"lora_up.weight", "lora_down.weight"})
    assert own - {"alpha"} in pairs
    assert any("stored twice" in remark for remark in saved.remarks)

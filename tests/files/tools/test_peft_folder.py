"""Folders of peft: written, read back, and loaded by peft's own code."""

from __future__ import annotations

import json

import peft
import pytest
import torch
from typer.testing import CliRunner

from helpers.lora_files import dense, make, stack, write
from helpers.tiny_sd15 import _unet as tiny_sd15_unet
from helpers.tiny_sdxl import text_config, tiny_unet
from stiefel_lora import _commands
from stiefel_lora._exceptions import ModelError, OutputError
from stiefel_lora.files import (
    LoraFactors,
    Target,
    convert_lora,
    open_lora,
    resize_lora,
    save_kohya,
    save_peft,
    verify_lora,
)


def lora_of(model: torch.nn.Module, start: str) -> dict[str, LoraFactors]:
    """Factors of different ranks and alphas for the layers of attention."""
    generator = torch.Generator().manual_seed(1)
    found = {}
    for place, (path, module) in enumerate(model.named_modules()):
        if not isinstance(module, torch.nn.Linear) or "attn" not in path:
            continue
        rank = 2 + place % 3
        up = torch.randn(module.out_features, rank, generator=generator)
        down = torch.randn(rank, module.in_features, generator=generator)
        found[f"{start}{path}"] = LoraFactors(0.1 * up, 0.2 * down, 1.0 + place % 2)
    return found


@pytest.mark.parametrize("make_model", [tiny_unet, tiny_sd15_unet])
def test_a_model_of_peft_has_the_updates(tmp_path, make_model):
    model = make_model()
    save_peft(tmp_path / "lora.safetensors", lora_of(model, "unet."))
    given = open_lora(tmp_path / "lora.safetensors")
    saved = convert_lora(given, tmp_path / "adapter", "PEFT (own)")
    assert sorted(p.name for p in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert saved.deviation < 1e-6
    before = {k: t.clone() for k, t in model.state_dict().items()}
    loaded = peft.PeftModel.from_pretrained(model, tmp_path / "adapter")
    after = loaded.merge_and_unload().state_dict()
    wanted = {layer.name: layer for layer in given.layers}
    changed = 0
    for key, old in before.items():
        name = f"unet.{key.removesuffix('.weight')}"
        update = torch.zeros_like(old)
        if name in wanted:
            factors = wanted[name].factors
            update = factors.scale * factors.up @ factors.down
            changed += 1
        assert torch.allclose(after[key], old + update, rtol=0, atol=1e-6), key
    assert changed == len(given.layers) > 10
    back = convert_lora(open_lora(tmp_path / "adapter"), tmp_path / "k.st", "kohya")
    exact = stack(dense(given))
    assert float((stack(dense(back.file)) - exact).norm()) < 1e-6 * float(exact.norm())
    (check,) = [c for c in verify_lora(saved.file) if c.program.startswith("peft")]
    assert (check.is_right, check.layers) == (True, changed)


def test_each_model_has_a_folder(tmp_path):
    from transformers import CLIPTextModel

    encoder = CLIPTextModel(text_config(16, 20))
    paths = lora_of(encoder, "text_encoder.")
    full = {
        f"text_encoder.text_model.{name.removeprefix('text_encoder.')}"
        if ".text_model." not in name
        else name: factors
        for name, factors in paths.items()
    }
    weights = lora_of(tiny_unet(), "unet.") | full
    save_kohya(tmp_path / "k.safetensors", weights, family="sdxl")
    given = open_lora(tmp_path / "k.safetensors")
    saved = convert_lora(given, tmp_path / "adapter", "PEFT (own)")
    assert sorted(p.name for p in (tmp_path / "adapter").iterdir()) == [
        "text_encoder",
        "unet",
    ]
    assert any("have the names of transformers 5" in remark for remark in saved.remarks)
    exact = stack(dense(given))
    again = open_lora(tmp_path / "adapter")
    assert (again.family, again.by_key.keys()) == ("sdxl", given.by_key.keys())
    assert float((stack(dense(again)) - exact).norm()) < 1e-6 * float(exact.norm())
    (check,) = [c for c in verify_lora(again) if c.program.startswith("peft")]
    assert (check.is_right, check.layers) == (True, len(weights))
    small = resize_lora(again, tmp_path / "small.safetensors", Target(rank=9)).saved
    assert float((stack(dense(small.file)) - exact).norm()) < 1e-6 * float(exact.norm())
    lineage = json.loads(small.file.metadata["stiefel_lora_lineage"])
    assert [parent["name"] for parent in lineage["parents"]] == ["adapter"]
    before = {k: t.clone() for k, t in encoder.state_dict().items()}
    folder = tmp_path / "adapter" / "text_encoder"
    merged = peft.PeftModel.from_pretrained(encoder, folder).merge_and_unload()
    for name, factors in paths.items():
        key = f"{name.removeprefix('text_encoder.')}.weight"
        wanted = before[key] + factors.scale * factors.up @ factors.down
        assert torch.allclose(merged.state_dict()[key], wanted, rtol=0, atol=1e-6)


def test_the_folder_of_diffusers(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    file = write(folder / "pytorch_lora_weights.safetensors", make("PEFT"))
    found = open_lora(folder)
    assert found.path == file.path
    assert torch.equal(stack(dense(found)), stack(dense(file)))


def test_a_name_that_ends_another_is_matched_alone(tmp_path):
    stems = ("transformer.proj_out", "transformer.single_transformer_blocks.0.proj_out")
    tensors = {}
    for seed, stem in enumerate(stems):
        generator = torch.Generator().manual_seed(seed)
        sizes = ((64, 2), (2, 96)) if seed == 0 else ((96, 3), (3, 480))
        for end, size in zip(("B", "A"), sizes, strict=True):
            key = f"{stem}.lora_{end}.weight"
            tensors[key] = torch.randn(size, generator=generator)
    file = write(tmp_path / "a.safetensors", tensors)
    saved = convert_lora(file, tmp_path / "adapter", "PEFT (own)")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert isinstance(config["target_modules"], str)
    (check,) = [c for c in verify_lora(saved.file) if c.program.startswith("peft")]
    assert check.is_right


def test_the_command_and_what_it_refuses(tmp_path):
    write(tmp_path / "a.safetensors", make())

    def run(*arguments: object):
        given = ["lora", "convert", *map(str, arguments), "--to", "peft-folder"]
        return CliRunner().invoke(_commands.app, given)

    path, out = tmp_path / "a.safetensors", tmp_path / "adapter"
    done = run(path, "--output", out)
    assert done.exit_code == 0, done.stderr
    assert "peft" in done.stdout
    again = run(path, "--output", out, "--overwrite")
    assert "exists. Use a new folder" in again.stderr
    named = run(path, "--output", tmp_path / "b.safetensors")
    assert "is a file" in named.stderr
    (out / "adapter_config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"adapter_config\.json is not a JSON object"):
        open_lora(out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"contains neither adapter_model"):
        open_lora(tmp_path / "empty")
    file = write(tmp_path / "c.safetensors", make(alphas=(1e9, 1.0, 1.0)))
    with pytest.raises(OutputError, match="exceeds the range"):
        convert_lora(file, tmp_path / "new", "PEFT (own)", dtype=torch.float16)
    assert not (tmp_path / "new").exists()


def test_only_peft_checks_its_own_files(tmp_path):
    """Other programs do not support these keys, so 0 of all layers is no finding."""
    path, out = tmp_path / "in.safetensors", tmp_path / "out"
    write(path, make("PEFT"))
    given = ["lora", "convert", str(path), "--to", "PEFT-Folder", "--output", str(out)]
    result = CliRunner().invoke(_commands.app, given)
    assert result.exit_code == 0, result.output
    assert "peft 0." in result.output
    for name in ("ComfyUI", "Forge", "diffusers", "0 of"):
        assert name not in result.output
    result = CliRunner().invoke(_commands.app, ["lora", "verify", str(out)])
    assert (result.exit_code, "0 of" in result.output) == (0, False)
    assert "Only peft supports this key format." in result.output


@pytest.mark.parametrize("name", ["PEFT", "Peft", "peft"])
def test_key_formats_in_upper_and_lower_case(tmp_path, name):
    path, out = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    write(path, make())
    given = ["lora", "convert", str(path), "--to", name, "--output", str(out)]
    given += ["--dtype", "Float32", "--no-verify"]
    result = CliRunner().invoke(_commands.app, given)
    assert (result.exit_code, open_lora(out).spelling) == (0, "PEFT"), result.output
    merged = ["lora", "merge", str(path), "--method", "NORM", "--output", str(out)]
    result = CliRunner().invoke(_commands.app, [*merged, "--overwrite", "--no-verify"])
    assert result.exit_code == 0, result.output

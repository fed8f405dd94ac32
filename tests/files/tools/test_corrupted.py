"""Outputs changed by hand: verify names each change."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from helpers.lora_files import make, write
from stiefel_lora import _commands
from stiefel_lora._exceptions import ModelError
from stiefel_lora.files import convert_lora, open_lora, verify_lora
from stiefel_lora.files.tools.verifying import compare_loras

ALIKE = {"ranks": (4, 4, 4), "alphas": (2.0, 2.0, 2.0)}


def alike() -> dict[str, torch.Tensor]:
    """A file with two layers of one shape."""
    tensors = make(**ALIKE)
    twin = {k.replace("to_q", "to_k"): t.flip(0) for k, t in tensors.items() if t.ndim}
    more = {k: t for k, t in twin.items() if "to_k" in k}
    stem = next(iter(more)).partition(".")[0]
    return tensors | more | {f"{stem}.alpha": torch.tensor(2.0)}


def one_alpha(tensors: dict[str, torch.Tensor]) -> None:
    key = next(key for key in tensors if "to_q" in key and key.endswith("alpha"))
    tensors[key] = tensors[key] * 2


def swapped(tensors: dict[str, torch.Tensor]) -> None:
    one = next(k for k in tensors if "to_q" in k and ".lora_up" in k)
    two = one.replace("to_q", "to_k")
    tensors[one], tensors[two] = tensors[two], tensors[one]


def transposed(tensors: dict[str, torch.Tensor]) -> None:
    """Square factors, so that all shapes still match."""
    for key in [k for k in tensors if "to_q" in k and tensors[k].ndim]:
        tensors[key] = tensors[key].flip(0)


def no_alpha(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[next(k for k in tensors if "to_q" in k and k.endswith("alpha"))]


def no_layer(tensors: dict[str, torch.Tensor]) -> None:
    for key in [key for key in tensors if "to_q" in key]:
        del tensors[key]


def other_layer(tensors: dict[str, torch.Tensor]) -> None:
    for key in [key for key in tensors if "to_q" in key]:
        tensors[key.replace("blocks_0_attn1", "blocks_1_attn1")] = tensors.pop(key)


@pytest.mark.parametrize("start", ["kohya", "PEFT"])
@pytest.mark.parametrize(
    "change", [one_alpha, swapped, transposed, no_alpha, no_layer, other_layer]
)
def test_every_program_names_the_layer(tmp_path, change, start):
    meant = write(tmp_path / "a.safetensors", alike())
    if start == "PEFT":
        meant = convert_lora(meant, tmp_path / "p.safetensors", "PEFT").file
    tensors = alike()
    same = write(tmp_path / "b.safetensors", tensors)
    assert compare_loras(same, meant).is_right
    assert all(check.is_right for check in verify_lora(same, meant))
    change(tensors)
    changed = write(tmp_path / "c.safetensors", tensors)
    found = [compare_loras(changed, meant), *verify_lora(changed, meant)]
    assert len(found) == 4
    for check in found:
        if change in (one_alpha, no_alpha) and check.program.startswith("diffusers"):
            # It applies the alpha of the first layer to all.
            continue
        assert not check.is_right, check.summary()
        assert "to_q" in check.summary() or "to_k" in check.summary()


def test_a_factor_alone(tmp_path):
    tensors = alike()
    del tensors[next(key for key in tensors if ".lora_up." in key)]
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(ModelError, match="its up factor is missing"):
        open_lora(path)


def test_a_dora_without_its_scale(tmp_path):
    tensors = alike()
    dora = {
        key.replace(".lora_up.weight", ".dora_scale"): torch.ones(len(t), 1)
        for key, t in tensors.items()
        if ".lora_up." in key
    }
    meant = write(tmp_path / "a.safetensors", tensors | dora)
    # diffusers removes these scales from files of SDXL.
    found = {check.program.split()[0]: check for check in verify_lora(meant)}
    assert found["ComfyUI"].is_right
    assert len(found["diffusers"].without_scale) == 4
    assert not found["diffusers"].is_right
    first = next(iter(dora))
    del dora[first]
    changed = write(tmp_path / "b.safetensors", tensors | dora)
    for check in (compare_loras(changed, meant), *verify_lora(changed, meant)):
        assert not check.is_right
        assert "DoRA scale ignored: " in check.summary()
    assert len(compare_loras(changed, meant).without_scale) == 1


def test_a_family_without_programs(tmp_path):
    """The two files can be compared although no program can be asked."""
    tensors = {
        f"diffusion_model.blocks.0.self_attn.q.lora_{x}.weight": torch.ones(3, 3)
        for x in "AB"
    }
    meant = write(tmp_path / "a.safetensors", tensors)
    given = ["lora", "verify", str(meant.path), "--against", str(meant.path)]
    assert CliRunner().invoke(_commands.app, given).exit_code == 0
    tensors["diffusion_model.blocks.0.self_attn.q.lora_A.weight"] = torch.ones(2, 3)
    tensors["diffusion_model.blocks.0.self_attn.q.lora_B.weight"] = torch.ones(3, 2)
    path = tmp_path / "b.safetensors"
    write(path, tensors)
    given[2] = str(path)
    result = CliRunner().invoke(_commands.app, given)
    assert result.exit_code == 2
    assert "largest relative deviation 3.3e-01" in result.stdout


def test_the_command(tmp_path):
    meant, path = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    write(meant, alike())
    tensors = alike()
    one_alpha(tensors)
    write(path, tensors)

    def run(*options: object):
        given = ["lora", "verify", str(path), *map(str, options)]
        return CliRunner().invoke(_commands.app, given)

    # diffusers applies one alpha to all layers; the others read each one.
    assert run().exit_code == 0
    bad = run("--against", meant)
    assert bad.exit_code == 2
    assert bad.stdout.startswith("stiefel-lora: 4 of 4 layers")
    assert "largest relative deviation 1.0e+00 (" in bad.stdout
    assert "differ from those of" in bad.stderr
    lines = json.loads(run("--against", meant, "--json").stdout)["checks"]
    assert len(lines) == 4
    flux = {
        "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": 4,
        "transformer.single_transformer_blocks.0.attn.to_q.lora_B.weight": 4,
        "transformer.single_transformer_blocks.0.proj_mlp.lora_A.weight": 4,
        "transformer.single_transformer_blocks.0.proj_mlp.lora_B.weight": 4,
    }
    other = write(meant, {key: torch.ones(n, n) for key, n in flux.items()})
    assert other.family == "flux"
    assert "Use two LoRAs of the same family" in run("--against", meant).stderr
    write(meant, {"lora_unet_input_blocks_4_1_proj_in.diff": torch.ones(6, 6)})
    assert "cannot be compared" in run("--against", meant).stderr


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_rounding_of_a_conversion_is_no_difference(tmp_path, dtype):
    """alpha is multiplied into A in the PEFT format, which rounds A again."""
    tensors = {
        key: tensor.to(dtype) if tensor.ndim else tensor
        for key, tensor in make(ranks=(4, 4, 4), alphas=(3.0, 3.0, 3.0)).items()
    }
    meant = write(tmp_path / "meant.safetensors", tensors)
    saved = convert_lora(meant, tmp_path / "peft.safetensors", spelling="PEFT")
    check = compare_loras(open_lora(saved.file.path), meant)
    assert check.deviation > 1e-5
    assert check.is_right

"""Verify: each program's updates from its own names, against the right ones."""

from __future__ import annotations

import dataclasses
import logging

import pytest
import torch
from typer.testing import CliRunner

from helpers.lora_files import SPELLINGS, dense_of, make, write
from stiefel_lora import _commands
from stiefel_lora._commands.lora import verdict
from stiefel_lora.files import Check, LoraFile, convert_lora, verify_lora
from stiefel_lora.files.tools.diffusers_loading import (
    unexpected_keys,
    without_notes,
)
from stiefel_lora.files.tools.key_lists import load_by_list
from stiefel_lora.files.tools.verifying import compare_loras

ALIKE = {"ranks": (4, 4, 4), "alphas": (2.0, 2.0, 2.0)}


def checks(file: LoraFile, meant: LoraFile | None = None) -> dict[str, Check]:
    return {check.program.split()[0]: check for check in verify_lora(file, meant)}


@pytest.mark.parametrize(
    ("spelling", "right"),
    [
        ("kohya", {"ComfyUI", "Forge", "diffusers"}),
        ("kohya (diffusers names)", {"ComfyUI", "Forge", "diffusers"}),
        ("ComfyUI", {"ComfyUI", "Forge"}),
        ("PEFT", {"diffusers"}),
        ("diffusers (old)", {"diffusers"}),
        ("OneTrainer", set()),
        ("PEFT (own)", {"peft"}),
    ],
)
def test_which_programs_apply_a_spelling_of_sdxl(tmp_path, spelling, right):
    file = write(tmp_path / "x.safetensors", make(spelling, **ALIKE))
    found = checks(file)
    assert {name for name, check in found.items() if check.is_right} == right
    for name in right:
        assert (found[name].layers, found[name].deviation) == (3, 0.0)
    if spelling == "PEFT":
        # ComfyUI has ".processor." in its names of attention layers.
        missing = "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q"
        assert found["ComfyUI"].missing == (missing,)
        assert len(found["ComfyUI"].unused) == 2


def test_the_deviation_is_that_of_the_updates(tmp_path):
    file = write(tmp_path / "x.safetensors", make(**ALIKE))
    layers = list(file.layers)
    twice = dataclasses.replace(layers[0].factors, alpha=4.0)
    layers[0] = dataclasses.replace(layers[0], factors=twice)
    meant = dataclasses.replace(file, layers=tuple(layers))
    for check in checks(file, meant).values():
        assert check.deviation == pytest.approx(0.5, rel=1e-6)
        assert not check.is_right
    fewer = dataclasses.replace(file, layers=file.layers[1:])
    for check in checks(file, fewer).values():
        assert len(check.missing) == 1


def test_alphas_that_differ_go_wrong_in_diffusers(tmp_path):
    file = write(tmp_path / "x.safetensors", make())
    found = checks(file)
    assert found["ComfyUI"].is_right
    # It applies the commonest alpha, or the first, to all: 2 instead of 3.
    assert found["diffusers"].deviation == pytest.approx(1 / 3, rel=1e-6)


def flux(rank: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    found = {}
    for path, out in {
        "transformer_blocks.0.attn.to_q": 4,
        "transformer_blocks.0.attn.to_v": 4,
        "transformer_blocks.3.attn.add_k_proj": 4,
        "transformer_blocks.0.ff.net.2": 4,
        "single_transformer_blocks.0.attn.to_k": 4,
        "single_transformer_blocks.0.proj_mlp": 16,
        "norm_out.linear": 8,
    }.items():
        stem = f"transformer.{path}"
        found[f"{stem}.lora_A.weight"] = torch.randn(rank, 5, generator=generator)
        found[f"{stem}.lora_B.weight"] = torch.randn(out, rank, generator=generator)
    return found


@pytest.mark.parametrize("to", ["PEFT", "kohya"])
def test_flux_fused_and_apart(tmp_path, to):
    file = write(tmp_path / "x.safetensors", flux())
    saved = convert_lora(file, tmp_path / "out.safetensors", to)
    found = checks(saved.file, file)
    assert set(found) == {"ComfyUI", "Forge", "diffusers"}
    for check in found.values():
        assert check.deviation < 1e-7, check.summary()
    assert found["ComfyUI"].is_right
    # With kohya's keys diffusers 0.42 has a layer for parts that no one trained.
    assert found["diffusers"].is_right == (to == "PEFT")


def test_sd15_and_its_text_encoder(tmp_path):
    tensors = {}
    for stem in (
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
        "lora_te_text_model_encoder_layers_3_mlp_fc1",
    ):
        tensors[f"{stem}.lora_down.weight"] = torch.randn(2, 5)
        tensors[f"{stem}.lora_up.weight"] = torch.randn(4, 2)
        tensors[f"{stem}.alpha"] = torch.tensor(1.0)
    file = write(tmp_path / "x.safetensors", tensors)
    assert file.family == "sd15"
    for check in checks(file).values():
        assert check.is_right, check.summary()


def test_lengths_of_a_dora_count(tmp_path):
    stem = SPELLINGS["kohya"][0][0]
    tensors = make(**ALIKE) | {f"{stem}.dora_scale": torch.rand(7, 1) + 1}
    file = write(tmp_path / "x.safetensors", tensors)
    assert checks(file)["ComfyUI"].is_right
    layers = [
        dataclasses.replace(
            layer,
            factors=dataclasses.replace(
                layer.factors, dora_scale=2 * layer.factors.dora_scale
            ),
        )
        if layer.factors.is_dora
        else layer
        for layer in file.layers
    ]
    meant = dataclasses.replace(file, layers=tuple(layers))
    assert checks(file, meant)["ComfyUI"].deviation == pytest.approx(0.5, rel=1e-6)


def test_rows_and_halves_of_fused_weights(tmp_path):
    tensors = flux()
    found = load_by_list("comfyui", "flux", tensors).factors
    up = tensors["transformer.single_transformer_blocks.0.proj_mlp.lora_B.weight"]
    down = tensors["transformer.single_transformer_blocks.0.proj_mlp.lora_A.weight"]
    update = dense_of(found["diffusion_model.single_blocks.0.linear1"])
    assert update.shape == (28, 5)
    assert torch.allclose(update[12:], (up @ down).double(), atol=1e-6)
    up = tensors["transformer.norm_out.linear.lora_B.weight"]
    down = tensors["transformer.norm_out.linear.lora_A.weight"]
    update = dense_of(found["diffusion_model.final_layer.adaLN_modulation.1"])
    swapped = torch.cat(up.chunk(2)[::-1])
    assert torch.allclose(update, (swapped @ down).double(), atol=1e-6)


def test_the_command(tmp_path):
    def run(path):
        return CliRunner().invoke(_commands.app, ["lora", "verify", str(path)])

    path = tmp_path / "x.safetensors"
    write(path, make(**ALIKE))
    result = run(path)
    assert result.exit_code == 0, result.stderr
    assert "ComfyUI a125cd8 (2025-10-12): 3 of 3 layers, largest" in result.stdout
    write(path, make("OneTrainer"))
    result = run(path)
    assert result.exit_code == 2
    assert "no program loads the whole file correctly" in result.stderr
    new = {"new.a.lora_A.weight": torch.ones(1, 2)}
    write(path, new | {"new.a.lora_B.weight": torch.ones(2, 1)})
    assert "no program can check a LoRA of an unknown family" in run(path).stderr


def test_a_message():
    check = Check("X 1", 3, 0.25, "a", ("b", "c", "d"), ("e",))
    assert check.summary() == (
        "X 1: 0 of 3 layers; missing: b, c and 1 more; unused: e."
    )
    refused = Check("X 1", 3, 0.0, problem="No.")
    assert refused.summary() == "X 1: rejects the file: No."
    assert not refused.is_right


def test_keys_that_diffusers_does_not_expect_are_counted():
    keys = [f"unet.block.{n}.lora_A.weight" for n in range(5)]
    line = "Loading adapter weights from state_dict led to unexpected keys found in "
    line += f"the model: {', '.join(keys)}. "
    assert unexpected_keys(line) == keys
    assert unexpected_keys(f"unexpected keys: {keys!r}.") == keys
    assert unexpected_keys("Unexpected keys") == ["Unexpected keys"]
    assert unexpected_keys("another warning: x") == []


def test_layers_that_a_model_does_not_have_are_named_by_diffusers(tmp_path):
    # The table of names has room for more blocks than the model has.
    block = "unet.down_blocks.1.attentions.0.transformer_blocks"
    tensors = make("PEFT") | {
        f"{block}.{n}.attn1.to_q.lora_{x}.weight": torch.ones(2, 2)
        for n in (6, 7, 8)
        for x in "AB"
    }
    file = write(tmp_path / "a.safetensors", tensors)
    (check,) = [c for c in verify_lora(file) if c.program.startswith("diffusers")]
    assert len(check.unused) == 6
    assert all("attn1.to_q.lora_" in key for key in check.unused)


def test_notes_while_importing_are_dropped_and_later_ones_are_not(caplog):
    before = logging.root.manager.disable
    with without_notes():
        logging.getLogger("a_library").warning("an optional part is missing")
    logging.getLogger("a_library").warning("this one counts")
    assert [record.message for record in caplog.records] == ["this one counts"]
    assert logging.root.manager.disable == before


def test_other_adapters_that_a_program_applies_are_not_unused(tmp_path):
    """ComfyUI and Forge apply them; they are only not compared."""
    stem = "lora_unet_middle_block_1_proj_in"
    parts = ("w1_a", "w1_b", "w2_a", "w2_b")
    shapes = zip(parts, ((6, 2), (2, 6)) * 2, strict=True)
    tensors = make(**ALIKE) | {
        **{f"{stem}.hada_{part}": torch.rand(shape) for part, shape in shapes},
        f"{stem}.alpha": torch.tensor(1.0),
        "lora_unet_output_blocks_3_1_proj_in.diff": torch.rand(6, 6),
        "lora_unet_output_blocks_3_1_proj_in.diff_b": torch.rand(6),
        "lora_unet_no_such_layer.diff": torch.rand(6, 6),
        "lora_unet_output_blocks_4_1_proj_in.oft_blocks": torch.rand(2, 3, 3),
    }
    found = checks(write(tmp_path / "x.safetensors", tensors))
    comfy, forge = found["ComfyUI"], found["Forge"]
    assert comfy.unused == ("lora_unet_no_such_layer.diff",)
    assert comfy.not_compared == 8
    assert "8 keys of other adapters not compared" in comfy.summary()
    assert "lora_unet_output_blocks_4_1_proj_in.oft_blocks" in forge.unused
    assert forge.not_compared == 7


def test_diffusers_ignores_other_adapters(tmp_path):
    """It loads a file of LoHa layers without a message and without an effect."""
    stem = "lora_unet_input_blocks_4_1_proj_in"
    names = ("w1_a", "w1_b", "w2_a", "w2_b")
    tensors = {f"{stem}.hada_{name}": torch.randn(4, 4) for name in names}
    found = checks(write(tmp_path / "x.safetensors", tensors))
    assert sorted(found["diffusers"].unused) == sorted(tensors)
    assert not found["diffusers"].is_right
    assert found["ComfyUI"].is_right
    assert found["ComfyUI"].not_compared == 4


def test_scales_that_need_the_base_model_are_not_compared(tmp_path):
    stem = "input_blocks.4.1.proj_in"
    up, down = torch.randn(4, 2), torch.randn(2, 4)
    one = write(
        tmp_path / "a.safetensors",
        {
            f"lora_unet_{stem.replace('.', '_')}.lora_up.weight": up,
            f"lora_unet_{stem.replace('.', '_')}.lora_down.weight": down,
            f"lora_unet_{stem.replace('.', '_')}.dora_scale": torch.ones(4, 1),
        },
    )
    name = "unet.down_blocks.1.attentions.0.proj_in"
    two = write(
        tmp_path / "b.safetensors",
        {
            f"{name}.lora_B.weight": up,
            f"{name}.lora_A.weight": down,
            f"{name}.lora_magnitude_vector": torch.ones(4) * 5,
        },
    )
    check = compare_loras(one, two)
    assert check.unlike_scales == 1
    assert "1 DoRA scale not compared" in check.summary()
    assert compare_loras(one, one).unlike_scales == 0


@pytest.mark.parametrize(
    ("right", "text"),
    [
        ((True, True, True), ""),
        (
            (True, True, False),
            "The file works in A and B, but not completely in C.",
        ),
        (
            (False, False, False),
            "The file does not work completely in A, B or C. If it is for one of them, "
            "convert it to kohya or peft.",
        ),
    ],
)
def test_the_last_line_lists_the_programs_in_which_a_file_works(right, text):
    checks = [
        Check(name, layers=1, deviation=0.0, missing=() if ok else ("q",))
        for name, ok in zip("ABC", right, strict=True)
    ]
    assert verdict(checks) == text

"""LoHa and LoKr of convolutions as LoRAs with the kernel of the layer."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

from helpers.lora_files import dense_of, write
from stiefel_lora._exceptions import ModelError
from stiefel_lora.families.catalogue import record_of
from stiefel_lora.files import Checkpoint, Rank, convert_lora, verify_lora
from stiefel_lora.files.tools.kernels import kernel_of
from stiefel_lora.memory.steps import layers_of
from stiefel_lora.memory.unet_steps import unet_steps

CONV = "lora_unet_input_blocks_4_0_in_layers_2"


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def flat(kind: str, stem: str, inputs: int, places: int) -> dict[str, torch.Tensor]:
    """A LoHa or LoKr of rank 2 with 6 outputs, without a core."""
    columns = inputs * places
    if kind == "LoHa":
        shapes = {
            "hada_w1_a": (6, 2),
            "hada_w1_b": (2, columns),
            "hada_w2_a": (6, 2),
            "hada_w2_b": (2, columns),
        }
    else:
        shapes = {
            "lokr_w1": (2, 2),
            "lokr_w2_a": (3, 2),
            "lokr_w2_b": (2, columns // 2),
        }
    parts = enumerate(shapes.items())
    return {f"{stem}.{name}": rand(*shape, seed=n) for n, (name, shape) in parts}


@pytest.mark.parametrize("kind", ["LoHa", "LoKr"])
@pytest.mark.parametrize(
    ("stem", "shape"),
    [
        (CONV, (6, 4, 3, 3)),
        ("lora_unet_input_blocks_4_0_skip_connection", (6, 4, 1, 1)),
        ("lora_unet_input_blocks_4_1_proj_in", (6, 4)),
        # Linear in SDXL, a convolution in SD 1.5.
        ("lora_unet_down_blocks_0_attentions_0_proj_in", (6, 4, 1, 1)),
        ("lora_unet_up_blocks_3_resnets_0_conv1", (6, 4, 3, 3)),
    ],
)
@pytest.mark.parametrize("to", ["kohya", "PEFT"])
def test_the_kernel_is_that_of_the_layer(tmp_path, kind, stem, shape, to):
    places = shape[2:][0] ** 2 if shape[2:] else 1
    # Only SDXL has this layer.
    other = "lora_unet_input_blocks_8_1_transformer_blocks_5_attn1_to_q"
    known = flat("LoHa", other, 4, 1) if "input_blocks" in stem else {}
    tensors = flat(kind, stem, 4, places) | known
    file = write(tmp_path / "in.safetensors", tensors)
    assert file.family == ("sdxl" if "input_blocks" in stem else "sd15")
    saved = convert_lora(file, tmp_path / "out.safetensors", to, goal=Rank(9))
    layer = next(x for x in saved.file.layers if "_blocks.5" not in x.name)
    ones = (1,) * len(shape[2:])
    rank = layer.factors.rank
    assert tuple(layer.factors.down.shape) == (rank, *shape[1:])
    assert tuple(layer.factors.up.shape) == (6, rank, *ones)
    checks = {c.program.split()[0]: c for c in verify_lora(saved.file)}
    assert checks["diffusers"].is_right, checks["diffusers"].summary()
    if to == "kohya":
        assert checks["ComfyUI"].is_right
        assert checks["Forge"].is_right


def test_a_base_model_of_another_kernel_is_used(tmp_path):
    """A derived model may have other kernels than the published one."""
    base = tmp_path / "base.safetensors"
    key = "model.diffusion_model.input_blocks.4.0.in_layers.2.weight"
    safetensors.torch.save_file({key: rand(6, 4, 5, 5)}, base)
    file = write(tmp_path / "in.safetensors", flat("LoHa", CONV, 4, 25))
    with pytest.raises(ModelError, match="100 columns, which is not a multiple"):
        convert_lora(file, tmp_path / "no.safetensors", "kohya", goal=Rank(9))
    saved = convert_lora(
        file,
        tmp_path / "out.safetensors",
        "kohya",
        goal=Rank(9),
        base=Checkpoint(base),
    )
    (layer,) = saved.file.layers
    assert tuple(layer.factors.down.shape[1:]) == (4, 5, 5)
    parts = {key.rpartition(".")[2]: t for key, t in file.tensors.items()}
    one = parts["hada_w1_a"] @ parts["hada_w1_b"]
    update = (one * (parts["hada_w2_a"] @ parts["hada_w2_b"])).double()
    assert torch.allclose(dense_of(layer.factors), update, atol=1e-4)


def test_a_name_of_several_families_is_enough(tmp_path):
    stem = "lora_unet_down_blocks_0_resnets_0_conv1"
    file = write(tmp_path / "in.safetensors", flat("LoHa", stem, 4, 9))
    assert file.family is None
    saved = convert_lora(file, tmp_path / "out.safetensors", "kohya", goal=Rank(9))
    assert saved.file.layers[0].factors.down.shape[1:] == (4, 3, 3)


def test_an_unknown_kernel_is_named(tmp_path):
    stem = "lora_unet_blocks_0_self_attn_q"
    file = write(tmp_path / "in.safetensors", flat("LoKr", stem, 4, 1))
    saved = convert_lora(file, tmp_path / "out.safetensors", "kohya", goal=Rank(2))
    (remark,) = [x for x in saved.remarks if "kernel" in x]
    assert "no table of Wan" in remark
    assert stem in remark


@pytest.mark.parametrize("family", ["sdxl", "sd15"])
def test_kernels_are_those_of_the_published_model(family):
    record = record_of(family)
    settings = json.loads((record.stock_folder / "unet.json").read_text("utf-8"))
    for name, layer in layers_of(unet_steps(settings, 8)).items():
        sides = (layer.kernel,) * 2 if layer.kernel else ()
        assert kernel_of(f"unet.{name}", family) == sides, name


def test_the_error_includes_rounding(tmp_path):
    file = write(tmp_path / "in.safetensors", flat("LoHa", CONV, 4, 9))
    saved = convert_lora(
        file,
        tmp_path / "out.safetensors",
        "kohya",
        goal=Rank(9),
        dtype=torch.float16,
    )
    (layer,) = saved.file.layers
    parts = {key.rpartition(".")[2]: t.double() for key, t in file.tensors.items()}
    one = parts["hada_w1_a"] @ parts["hada_w1_b"]
    update = one * (parts["hada_w2_a"] @ parts["hada_w2_b"])
    true = float((dense_of(layer.factors) - update).norm() / update.norm())
    assert true > 1e-5
    assert saved.error == pytest.approx(true, rel=1e-3)
    assert f"relative error of {saved.error:.6g}" in saved.remarks[0]

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from make_comfyui_names import sdxl_text_encoders, sdxl_unet
from stiefel_lora import _exceptions
from stiefel_lora.files.keys_sdxl import SDXL
from stiefel_lora.files.weights import canonical_name

from_kohya, kohya_names, to_kohya = SDXL.from_kohya, SDXL.kohya_names, SDXL.to_kohya


@pytest.fixture(scope="module")
def comfyui_names() -> set[str]:
    data = Path(__file__).with_name("comfyui_sdxl_names.json.gz").read_bytes()
    return set(json.loads(gzip.decompress(data))["names"])


@pytest.fixture(scope="module")
def unet_layers() -> dict[str, torch.nn.Module]:
    """Every layer of a full-size SDXL UNet that a LoRA can adapt."""
    return {
        canonical_name("unet", path): module
        for path, module in sdxl_unet().named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    }


@pytest.fixture(scope="module")
def encoder_layers() -> list[str]:
    small, large = sdxl_text_encoders()
    return [
        canonical_name(component, path)
        for component, model in (("text_encoder", small), ("text_encoder_2", large))
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]


def test_comfyui_accepts_all_722_transformer_linears(unet_layers, comfyui_names):
    targets = [
        name
        for name, module in unet_layers.items()
        if ".attentions." in name and isinstance(module, torch.nn.Linear)
    ]
    assert len(targets) == 722
    assert {to_kohya(name) for name in targets} <= comfyui_names


def test_comfyui_accepts_every_other_layer_of_the_unet(unet_layers, comfyui_names):
    assert len(unet_layers) == 794
    stems = {to_kohya(name) for name in unet_layers}
    assert len(stems) == 794
    assert stems <= comfyui_names


def test_comfyui_accepts_the_text_encoders(encoder_layers, comfyui_names):
    assert len(encoder_layers) == 72 + 193
    assert {to_kohya(name) for name in encoder_layers} <= comfyui_names


def test_every_name_comes_back(unet_layers, encoder_layers):
    for name in [*unet_layers, *encoder_layers]:
        assert from_kohya(to_kohya(name)) == name


def test_the_table_is_one_to_one():
    assert len(SDXL._inverse) == len(kohya_names())


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        (
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
        ),
        (
            "unet.down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_out.0",
            "lora_unet_input_blocks_8_1_transformer_blocks_9_attn2_to_out_0",
        ),
        (
            "unet.up_blocks.0.attentions.2.transformer_blocks.3.ff.net.0.proj",
            "lora_unet_output_blocks_2_1_transformer_blocks_3_ff_net_0_proj",
        ),
        ("unet.mid_block.attentions.0.proj_out", "lora_unet_middle_block_1_proj_out"),
        ("unet.mid_block.resnets.1.conv2", "lora_unet_middle_block_2_out_layers_3"),
        ("unet.down_blocks.0.downsamplers.0.conv", "lora_unet_input_blocks_3_0_op"),
        ("unet.up_blocks.1.upsamplers.0.conv", "lora_unet_output_blocks_5_2_conv"),
        ("unet.conv_out", "lora_unet_out_2"),
        (
            "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
            "lora_te1_text_model_encoder_layers_0_self_attn_q_proj",
        ),
        ("text_encoder_2.text_projection", "lora_te2_text_projection"),
    ],
)
def test_names_written_out(name, stem):
    assert to_kohya(name) == stem
    assert from_kohya(stem) == name


@pytest.mark.parametrize(
    "name",
    [
        "unet.down_blocks.3.attentions.0.proj_in",
        "unet.down_blocks.1.attentions.2.proj_in",
        "unet.mid_block.attentions.0.norm",
        "down_blocks.1.attentions.0.proj_in",
        "text_encoder.encoder.layers.0.self_attn.q_proj",
    ],
)
def test_a_name_outside_sdxl_is_refused(name):
    with pytest.raises(_exceptions.ModelError, match="no kohya name"):
        to_kohya(name)


def test_a_stem_outside_sdxl_is_refused():
    with pytest.raises(_exceptions.ModelError, match="double_blocks"):
        from_kohya("lora_unet_double_blocks_0_img_attn_qkv")


@pytest.mark.parametrize(
    ("component", "path", "name"),
    [
        ("text_encoder", "encoder.layers.0.mlp.fc1", "text_model.encoder"),
        ("text_encoder", "text_model.encoder.layers.0.mlp.fc1", "text_model.encoder"),
        ("text_encoder_2", "text_projection", "text_projection"),
    ],
)
def test_the_text_model_level_is_always_there(component, path, name):
    assert canonical_name(component, path).startswith(f"{component}.{name}")


def test_an_unknown_component_is_refused():
    with pytest.raises(_exceptions.ModelError, match="prior"):
        canonical_name("prior", "proj_out")

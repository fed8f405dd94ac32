"""Layers of the real, full-size SDXL that get a LoRA (meta device: no values)."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from stiefel_lora import ConfigError
from stiefel_lora.adapters import select_layers

# unet/config.json of stabilityai/stable-diffusion-xl-base-1.0, what shapes layers.
SDXL = {
    "act_fn": "silu",
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20],
    "block_out_channels": [320, 640, 1280],
    "cross_attention_dim": 2048,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "layers_per_block": 2,
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
    "transformer_layers_per_block": [1, 2, 10],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "use_linear_projection": True,
}


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(SDXL)


def select(unet: nn.Module, preset: str, *patterns: str, rank: int = 16) -> list[str]:
    return select_layers(
        unet, family="sdxl", preset=preset, patterns=patterns, rank=rank
    )


@pytest.mark.parametrize(
    ("preset", "count"), [("attn-only", 560), ("attn-mlp", 722), ("full", 743)]
)
def test_presets_select_as_many_layers_as_everywhere(
    unet: nn.Module, preset: str, count: int
) -> None:
    assert len(select(unet, preset)) == count


def test_attn_mlp_is_attention_feed_forward_and_projections(unet: nn.Module) -> None:
    ends = {name.rsplit(".", 1)[1] for name in select(unet, "attn-mlp")}
    assert ends == {"to_q", "to_k", "to_v", "0", "proj", "2", "proj_in", "proj_out"}


def test_patterns_replace_the_preset_and_keep_the_order(unet: nn.Module) -> None:
    found = select(unet, "full", "*.attn2.to_k", "mid_block.*.attn2.to_q")
    assert len(found) == 70 + 10
    order = [name for name, _ in unet.named_modules()]
    assert [order.index(name) for name in found] == sorted(map(order.index, found))


def test_a_plain_pattern_is_a_piece_of_the_name(unet: nn.Module) -> None:
    assert len(select(unet, "full", "attentions")) == 722


def test_patterns_reach_convolutions(unet: nn.Module) -> None:
    found = select(unet, "full", "*.resnets.0.conv1")
    assert "down_blocks.0.resnets.0.conv1" in found


def test_unused_pattern_is_an_error_that_shows_a_name(unet: nn.Module) -> None:
    with pytest.raises(ConfigError) as error:
        select(unet, "full", "*.attn1.to_q", "mid_block.attention.0.proj_in")
    assert str(error.value) == (
        "layer_filter: 'mid_block.attention.0.proj_in' matches no layer. Layer names "
        "look like 'mid_block.attentions.0.proj_in'. Use * to match any text."
    )


def test_too_large_rank_names_the_layer_and_the_limit(unet: nn.Module) -> None:
    with pytest.raises(ConfigError) as error:
        select(unet, "attn-only", "down_blocks.1.attentions.0.proj_in", rank=641)
    assert str(error.value) == (
        "lora_rank=641 exceeds the size of the layer "
        "down_blocks.1.attentions.0.proj_in (640 x 640). Use a rank of at most 640, "
        "or exclude the layer with layer_filter."
    )

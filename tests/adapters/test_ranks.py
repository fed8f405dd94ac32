from __future__ import annotations

import pytest
from torch import nn

from helpers.full_size import flux_transformer
from helpers.tiny_sdxl import tiny_unet
from make_comfyui_names import sdxl_unet
from stiefel_lora import ConfigError
from stiefel_lora.adapters import add_lora, alpha_of, pairs_of, ranks_of, select_layers
from stiefel_lora.config import parse_config

PATTERN = {"mid_block": 8, "*.attn1.to_k": 2}


def targets_of(unet: nn.Module, **settings: object) -> list[str]:
    return select_layers(unet, family="sdxl", preset="attn-mlp", rank=4, **settings)  # type: ignore[arg-type]


def test_the_last_pattern_that_matches_counts_and_alpha_follows() -> None:
    unet = tiny_unet()
    targets = targets_of(unet, rank_pattern=PATTERN)
    ranks = ranks_of(unet, targets, rank=4, rank_pattern=PATTERN)
    add_lora(unet, rank=4, alpha=2.0, targets=targets, method=None, seed=0, ranks=ranks)
    found = {pair.name: pair.rank for pair in pairs_of(unet)}
    assert found == ranks
    assert set(found.values()) == {2, 4, 8}
    for pair in pairs_of(unet):
        inside = 8 if "mid_block" in pair.name else 4
        assert pair.rank == (2 if pair.name.endswith("attn1.to_k") else inside)
        assert alpha_of(unet, pair) == pair.rank / 2


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    unet = tiny_unet()
    with pytest.raises(ConfigError, match="'midblock' matches none of the"):
        targets_of(unet, rank_pattern={"midblock": 8})


def test_a_rank_that_is_too_large_names_layer_and_limit() -> None:
    with pytest.raises(
        ConfigError, match="The rank 64 exceeds the size of the layer mid_"
    ):
        targets_of(tiny_unet(), rank_pattern={"mid_block": 64})


def test_convolutions_have_a_rank_of_their_own() -> None:
    unet = sdxl_unet()
    found = select_layers(unet, family="sdxl", preset="attn-mlp", rank=16, conv_rank=8)
    ranks = ranks_of(unet, found, rank=16, conv_rank=8)
    kernels = {n: getattr(unet.get_submodule(n), "kernel_size", None) for n in found}
    assert len(found) == 722 + 49
    assert "conv_in" not in found
    assert sum(kernel == (3, 3) for kernel in kernels.values()) == 38
    assert {ranks[name] for name, kernel in kernels.items() if kernel == (3, 3)} == {8}
    assert {ranks[name] for name, kernel in kernels.items() if kernel != (3, 3)} == {16}


def test_a_rank_too_large_for_a_convolution_is_one_message() -> None:
    with pytest.raises(ConfigError) as error:
        targets_of(tiny_unet(), conv_rank=24)
    assert str(error.value) == (
        "The rank 24 exceeds the size of the layer down_blocks.0.resnets.0.conv1 (16 "
        "x 144). Use a rank of at most 16, or exclude the layer with layer_filter."
    )


def test_flux_has_no_convolutions() -> None:
    with pytest.raises(ConfigError, match="'flux' models have no convolutions"):
        select_layers(
            flux_transformer(), family="flux", preset="full", rank=4, conv_rank=4
        )


def test_a_start_from_the_gradient_has_one_rank() -> None:
    with pytest.raises(ConfigError, match="requires the same rank for all layers"):
        parse_config({"lora_init": "loi", "rank_pattern": {"mid_block": 8}})

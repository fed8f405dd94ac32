"""Whole runs whose layers have unequal ranks, and their files in stock pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.runs import tiny_config, tiny_flux_config
from helpers.sampled import own_image, stock_image
from stiefel_lora.files import load_lora
from stiefel_lora.training import TrainResult
from stiefel_lora.training.trainer import train

SDXL: dict[str, Any] = {
    "layer_filter": [],
    "rank_pattern": {"mid_block": 6, "*.attn2.to_k": 2},
    "conv_rank": 3,
}
FLUX: dict[str, Any] = {
    "layer_filter": ["transformer_blocks.*", "*.proj_out"],
    "rank_pattern": {"*.attn.to_k": 2, "single_*": 6},
}


@pytest.fixture(
    scope="module",
    params=[("sdxl", 0.3, {}), ("sdxl", 0.05, {"lora_alpha": 2.0}), ("flux", 0.3, {})],
    ids=["sdxl", "sdxl with alpha of half the rank", "flux"],
)
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, TrainResult, float]:
    family, rate, changes = request.param
    make, patterns = {
        "sdxl": (tiny_config, SDXL),
        "flux": (tiny_flux_config, FLUX),
    }[family]
    model = request.getfixturevalue(f"tiny_{family}")
    name = "adamw" if changes else "stiefel_lora"
    config = make(
        model,
        tmp_path_factory.mktemp("ranks"),
        **{**patterns, **changes},
        learning_rate=rate,
        optimizer={"name": name},
    )
    return family, model, train(config), config.resolved_alpha


@pytest.mark.slow
def test_a_stock_pipeline_shows_the_trainers_own_image(
    trained: tuple[str, Path, TrainResult, float],
) -> None:
    family, model, result, alpha = trained
    own = own_image(model, result, family=family, alpha=alpha)
    plain = stock_image(model, None, family=family)
    assert (own - plain).abs().max() > 1e-2
    for path in result.lora_files:
        found = stock_image(model, path, family=family)
        assert (own - found).abs().max() <= 1e-4, path.name


def expected_rank(name: str) -> int:
    """By SDXL and FLUX above; convolutions of one pixel count as linear layers."""
    if name.startswith("transformer."):
        return 6 if ".single_" in name else 2 if name.endswith("attn.to_k") else 4
    if name.endswith("attn2.to_k"):
        return 2
    if "mid_block" in name:
        return 6
    return 3 if name.endswith((".conv1", ".conv2", ".conv")) else 4


def test_files_hold_the_ranks_that_were_asked_for(
    trained: tuple[str, Path, TrainResult, float],
) -> None:
    result = trained[2]
    for path in result.lora_files:
        for name, factors in load_lora(path).items():
            assert factors.rank == expected_rank(name), name

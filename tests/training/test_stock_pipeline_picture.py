"""A stock diffusers pipeline with the LoRA file shows the trainer's own image."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.runs import tiny_config
from helpers.sampled import own_image, stock_image
from stiefel_lora.training import TrainResult
from stiefel_lora.training.trainer import train


@pytest.fixture(
    scope="module",
    params=[
        {"optimizer": {"name": "stiefel_lora"}, "learning_rate": 0.3},
        {"optimizer": {"name": "adamw"}, "learning_rate": 0.05, "lora_alpha": 2.0},
    ],
    ids=["stiefel_lora", "adamw with alpha of half the rank"],
)
def result(
    request: pytest.FixtureRequest,
    tiny_sdxl: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[TrainResult, float]:
    root = tmp_path_factory.mktemp("picture")
    config = tiny_config(
        tiny_sdxl,
        root,
        layer_filter=["mid_block", "up_blocks.0.attentions.0"],
        **request.param,
    )
    return train(config), config.resolved_alpha


def test_both_files_give_the_trainers_own_image(
    tiny_sdxl: Path, result: tuple[TrainResult, float]
) -> None:
    whole, alpha = result
    own = own_image(tiny_sdxl, whole, alpha=alpha)
    assert (own - stock_image(tiny_sdxl, None)).abs().max() > 1e-2
    for path in whole.lora_files:
        found = stock_image(tiny_sdxl, path)
        assert (own - found).abs().max() <= 1e-4, path.name

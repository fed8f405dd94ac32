"""A stock diffusers pipeline with the LoRA file shows the trainer's own picture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from helpers.runs import tiny_config
from stiefel_lora.adapters import add_lora, load_factors
from stiefel_lora.families import SampleRequest
from stiefel_lora.families.sdxl import Sdxl
from stiefel_lora.training import TrainResult
from stiefel_lora.training.checkpoint import load_checkpoint
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


def own_picture(tiny_sdxl: Path, result: TrainResult, alpha: float) -> torch.Tensor:
    assert result.checkpoint is not None
    factors = load_checkpoint(result.checkpoint).factors
    family = Sdxl(tiny_sdxl, torch.float32, torch.device("cpu"))
    targets = [n.removesuffix(".lora_A.default.weight") for n in factors if "_A." in n]
    add_lora(family.denoiser, rank=4, alpha=alpha, targets=targets, method=None, seed=0)
    load_factors(family.denoiser, factors)
    request = SampleRequest(family.encode_caption("a thing"), None, 1, 2, 5.0, 32, 32)
    return family.sample_pixels(request)


def stock_picture(tiny_sdxl: Path, lora: Path | None) -> torch.Tensor:
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl)
    if lora is not None:
        pipeline.load_lora_weights(lora.parent, weight_name=lora.name)
    images = pipeline(
        "a thing",
        num_inference_steps=2,
        guidance_scale=5.0,
        width=32,
        height=32,
        generator=torch.Generator("cpu").manual_seed(1),
        output_type="pt",
    ).images
    return images[0] * 2 - 1


def test_both_files_give_the_trainers_own_picture(
    tiny_sdxl: Path, result: tuple[TrainResult, float]
) -> None:
    own = own_picture(tiny_sdxl, *result).clamp(-1, 1)
    assert (own - stock_picture(tiny_sdxl, None)).abs().max() > 1e-2
    for path in result[0].lora_files:
        found = stock_picture(tiny_sdxl, path)
        assert (own - found).abs().max() <= 1e-4, path.name

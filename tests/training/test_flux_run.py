"""Whole runs on a tiny random FLUX.1."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.families import open_flux
from helpers.fixtures import StopAfter
from helpers.full_size import linear_layers
from helpers.runs import (
    assert_same_factors,
    last_ranks,
    tiny_flux_config,
)
from helpers.sampled import own_image, stock_image
from stiefel_lora.adapters import add_lora
from stiefel_lora.optim.factory import create_optimizer
from stiefel_lora.training import TrainResult, read_events
from stiefel_lora.training.trainer import train


@pytest.fixture(scope="module")
def trained(tiny_flux: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A run without the fused first layer of single blocks.

    diffusers reads that one in kohya's format at FLUX.1's own width alone, so it is
    compared in tests/files; layers outside the blocks it does not read right.
    """
    root = tmp_path_factory.mktemp("flux")
    config = tiny_flux_config(
        tiny_flux,
        root,
        learning_rate=0.3,
        layer_filter=["transformer_blocks.*", "*.proj_out"],
        validate_every=4,
    )
    return train(config)


def test_both_files_give_the_trainers_own_image(
    tiny_flux: Path, trained: TrainResult
) -> None:
    own = own_image(tiny_flux, trained, family="flux", alpha=4.0)
    plain = stock_image(tiny_flux, None, family="flux")
    assert (own - plain).abs().max() > 1e-2
    for path in trained.lora_files:
        found = stock_image(tiny_flux, path, family="flux")
        assert (own - found).abs().max() <= 1e-4, path.name


def test_rates_and_ranks_bear_the_names_of_the_transformer(
    trained: TrainResult,
) -> None:
    events = read_events(trained.run_dir / "events.jsonl")
    steps = [event["values"] for event in events if event["type"] == "train"]
    assert "lr/transformer" in steps[-1]
    assert any("transformer_blocks" in tag for tag in last_ranks(trained))
    assert trained.validation_after is not None


def test_it_learns_one_batch_by_heart(tiny_flux: Path) -> None:
    torch.manual_seed(0)
    family = open_flux(tiny_flux)
    model = family.denoiser
    names = [name for name in linear_layers(model)]
    add_lora(model, rank=8, alpha=8, targets=names, method=None, seed=0)
    optimizer = create_optimizer("adamw", model, lr=2e-2)
    batch = {
        "latents": torch.randn(2, 16, 4, 4),
        "embeds": torch.randn(2, 8, 32),
        "pooled": torch.randn(2, 32),
    }
    noise, levels = torch.randn(2, 16, 4, 4), torch.tensor([300.0, 800.0])
    losses = []
    for _ in range(60):
        found = family.predict(model, batch, noise, levels)
        loss = (found.predicted - found.target).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_a_resumed_run_ends_with_the_same_bits(
    tiny_flux: Path, tmp_path: Path, stop_after: StopAfter
) -> None:
    whole = train(tiny_flux_config(tiny_flux, tmp_path, run_name="whole"))
    config = tiny_flux_config(tiny_flux, tmp_path, run_name="stopped")
    with stop_after(2, "stop"):
        assert train(config).interrupted
    assert_same_factors(whole, train(config, resume="last"))

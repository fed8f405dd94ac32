"""Whole runs on a tiny random FLUX.1."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.fixtures import StopAfter
from helpers.pictures import own_picture, stock_picture
from helpers.runs import (
    assert_same_factors,
    last_ranks,
    make_pictures,
    tiny_flux_config,
)
from stiefel_lora.training import TrainResult, read_events
from stiefel_lora.training.trainer import train


@pytest.fixture(scope="module")
def trained(tiny_flux: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A run whose single block keeps its fused first layer.

    diffusers reads a kohya-style linear1 at FLUX.1's own width alone; that layer is
    compared at its own width in tests/files.
    """
    root = tmp_path_factory.mktemp("flux")
    config = tiny_flux_config(
        tiny_flux,
        root,
        learning_rate=0.3,
        layer_filter=["transformer_blocks.0.attn", "ff", "proj_out", "norm1"],
        validate_every=4,
    )
    return train(config)


def test_both_files_give_the_trainers_own_picture(
    tiny_flux: Path, trained: TrainResult
) -> None:
    own = own_picture(tiny_flux, trained, family="flux")
    plain = stock_picture(tiny_flux, None, family="flux")
    assert (own - plain).abs().max() > 1e-2
    for path in trained.lora_files:
        found = stock_picture(tiny_flux, path, family="flux")
        assert (own - found).abs().max() <= 1e-4, path.name


def test_rates_and_ranks_bear_the_names_of_the_transformer(
    trained: TrainResult,
) -> None:
    events = read_events(trained.run_dir / "events.jsonl")
    steps = [event["values"] for event in events if event["type"] == "train"]
    assert "lr/transformer" in steps[-1]
    assert any("transformer_blocks" in tag for tag in last_ranks(trained))
    assert trained.validation_after is not None


def test_it_learns_one_batch_by_heart(tiny_flux: Path, tmp_path: Path) -> None:
    make_pictures(tmp_path / "train", count=1)
    config = tiny_flux_config(
        tiny_flux,
        tmp_path,
        concepts=[{"path": str(tmp_path / "train")}],
        validation_concepts=[{"path": str(tmp_path / "train")}],
        validate_every=60,
        steps=60,
        batch_size=1,
        gradient_accumulation_steps=2,
        layer_filter_preset="full",
        optimizer={"name": "adamw"},
        learning_rate=2e-2,
    )
    result = train(config)
    assert result.validation_before is not None
    assert result.validation_after is not None
    assert result.validation_after < 0.6 * result.validation_before


def test_a_resumed_run_ends_with_the_same_bits(
    tiny_flux: Path, tmp_path: Path, stop_after: StopAfter
) -> None:
    whole = train(tiny_flux_config(tiny_flux, tmp_path, run_name="whole"))
    config = tiny_flux_config(tiny_flux, tmp_path, run_name="stopped")
    with stop_after(2, "stop"):
        assert train(config).interrupted
    assert_same_factors(whole, train(config, resume="last"))

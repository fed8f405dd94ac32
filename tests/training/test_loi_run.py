"""Runs that start from the gradient of their first images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.fixtures import StopAfter
from helpers.ranks import entropy_rank
from helpers.runs import assert_same_factors, factors_of, last_ranks, tiny_config
from stiefel_lora import ConfigError
from stiefel_lora.config import TrainConfig
from stiefel_lora.files import load_lora
from stiefel_lora.metrics.tags import tag_of
from stiefel_lora.training import TrainResult
from stiefel_lora.training.trainer import train

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


def loi_config(tiny_sdxl: Path, root: Path, **changes: object) -> TrainConfig:
    settings = {"lora_init": "loi", "loi_batches": 2, "validate_every": 2, **changes}
    return tiny_config(tiny_sdxl, root, rank_every=2, **settings)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loi")


@pytest.fixture(scope="module")
def whole(tiny_sdxl: Path, root: Path) -> TrainResult:
    return train(loi_config(tiny_sdxl, root, run_name="whole"))


def moved(result: TrainResult) -> torch.Tensor:
    factors = factors_of(result)
    products = [
        factors[f"{LAYER}.lora_B.{adapter}.weight"].double()
        @ factors[f"{LAYER}.lora_A.{adapter}.weight"].double()
        for adapter in ("default", "offset")
    ]
    return products[0] + products[1]


def test_the_model_is_unchanged_at_step_0(
    tiny_sdxl: Path, root: Path, whole: TrainResult
) -> None:
    settings = {"lora_init": "auto", "steps": 1, "run_name": "plain"}
    plain = train(loi_config(tiny_sdxl, root, **settings))
    assert whole.validation_before == pytest.approx(plain.validation_before, rel=1e-6)
    assert whole.validation_after != pytest.approx(whole.validation_before, rel=1e-6)


def test_the_file_holds_the_difference_exactly(whole: TrainResult) -> None:
    expected = moved(whole)
    for path in whole.lora_files:
        found = load_lora(path)[f"unet.{LAYER}"]
        assert (found.rank, found.alpha) == (8, 8.0)
        product = found.scale * found.up.double() @ found.down.double()
        # float32 files: each product is one rounding of both factors away.
        assert (product - expected).norm() <= 1e-6 * expected.norm()


def test_ranks_are_those_of_the_difference(whole: TrainResult) -> None:
    values = last_ranks(whole)
    expected = entropy_rank(torch.linalg.svdvals(moved(whole))[:8])
    assert values[tag_of("effective_rank", LAYER)] == pytest.approx(expected, rel=1e-4)
    assert values["orthogonality/largest"] < 1e-5


def test_a_resumed_run_ends_the_same(
    tiny_sdxl: Path, root: Path, whole: TrainResult, stop_after: StopAfter
) -> None:
    config = loi_config(tiny_sdxl, root, run_name="stopped")
    with stop_after(2, "stop"):
        stopped = train(config)
    resumed = train(config, resume=stopped.run_dir)
    assert_same_factors(whole, resumed)


def test_a_lower_file_rank_reports_what_it_loses(
    tiny_sdxl: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"run_name": "low", "steps": 1, "loi_file_rank": 3}
    result = train(loi_config(tiny_sdxl, root, **settings))
    assert load_lora(result.lora_files[0])[f"unet.{LAYER}"].rank == 3
    assert "The file has rank 3. The truncation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loi_file_rank": 9}, "at most 2 x lora_rank = 8"),
        (
            {"lora_init": "auto", "loi_file_rank": 4},
            "is only supported with lora_init='loi'",
        ),
        ({"lora_init": "stella"}, "is only supported by the optimizer stella"),
    ],
)
def test_settings_that_contradict_each_other(
    tiny_sdxl: Path, tmp_path: Path, changes: dict, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        loi_config(tiny_sdxl, tmp_path, **changes)


def test_a_layer_without_room_is_refused_before_anything_is_made(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    config = loi_config(tiny_sdxl, tmp_path, lora_rank=32)
    with pytest.raises(ConfigError, match="at least 2 x lora_rank = 64"):
        train(config)
    assert not config.run_dir.exists()

"""A DoRA through the whole trainer: file, ranks, resume, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.families import open_sdxl
from helpers.fixtures import StopAfter
from helpers.pictures import own_picture, stock_picture
from helpers.ranks import entropy_rank
from helpers.runs import assert_same_factors, factors_of, last_ranks, tiny_config
from stiefel_lora import ConfigError
from stiefel_lora.config import TrainConfig
from stiefel_lora.files import load_lora
from stiefel_lora.optim.rank_probe import tag_of
from stiefel_lora.training import TrainResult
from stiefel_lora.training.trainer import train

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def dora_config(tiny_sdxl: Path, root: Path, **changes: object) -> TrainConfig:
    settings: dict = {
        "use_dora": True,
        "output_formats": ["peft"],
        "optimizer": {"name": "stiefel_lora"},
        "learning_rate": 0.3,
        "layer_filter": ["mid_block"],
        "rank_every": 2,
    }
    return tiny_config(tiny_sdxl, root, **(settings | changes))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dora")


@pytest.fixture(scope="module")
def whole(tiny_sdxl: Path, root: Path) -> TrainResult:
    return train(dora_config(tiny_sdxl, root, run_name="whole"))


def test_a_stock_pipeline_shows_the_trainers_own_picture(
    tiny_sdxl: Path, whole: TrainResult
) -> None:
    own = own_picture(tiny_sdxl, whole, alpha=4.0, use_dora=True)
    assert (own - stock_picture(tiny_sdxl, None)).abs().max() > 1e-2
    (path,) = whole.lora_files
    assert (own - stock_picture(tiny_sdxl, path)).abs().max() <= 1e-4


def test_ranks_are_those_of_the_part_that_has_one(
    tiny_sdxl: Path, whole: TrainResult
) -> None:
    (path,) = whole.lora_files
    found = load_lora(path)[f"unet.{LAYER}"]
    family = open_sdxl(tiny_sdxl)
    base = family.denoiser.get_submodule(LAYER).weight.detach().double()
    product = found.up.double() @ found.down.double()
    assert found.magnitude is not None
    lengths = (base + product).norm(dim=1)
    scales = (found.magnitude.double() / lengths)[:, None]
    expected = entropy_rank(torch.linalg.svdvals(scales * product)[:4])
    values = last_ranks(whole)
    assert values[tag_of("effective_rank", LAYER)] == pytest.approx(expected, rel=1e-4)
    change = float(((scales - 1) * base).norm() / base.norm())
    found_change = values[tag_of("magnitude_change", LAYER)]
    assert found_change == pytest.approx(change, rel=1e-3)
    assert 0 < found_change <= values["magnitude_change/largest"]
    assert values["orthogonality/largest"] < 1e-5


def test_a_resumed_run_ends_the_same(
    tiny_sdxl: Path, root: Path, whole: TrainResult, stop_after: StopAfter
) -> None:
    config = dora_config(tiny_sdxl, root, run_name="stopped")
    with stop_after(2, "stop"):
        stopped = train(config)
    resumed = train(config, resume=stopped.run_dir)
    assert_same_factors(whole, resumed)
    assert any("magnitude" in name for name in factors_of(resumed))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"output_formats": ["kohya", "peft"]}, "can not be saved as kohya"),
        ({"lora_init": "loi"}, "does not go with lora_init='loi'"),
    ],
)
def test_settings_that_contradict_each_other(
    tiny_sdxl: Path, tmp_path: Path, changes: dict, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        dora_config(tiny_sdxl, tmp_path, **changes)

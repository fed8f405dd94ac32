"""A DoRA through the whole trainer: file, ranks, resume, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.families import open_flux, open_sdxl
from helpers.fixtures import StopAfter
from helpers.ranks import entropy_rank
from helpers.readers import weight_in_comfyui
from helpers.runs import (
    assert_same_factors,
    factors_of,
    last_ranks,
    tiny_config,
    tiny_flux_config,
)
from helpers.sampled import own_image, stock_image
from stiefel_lora import ConfigError
from stiefel_lora.config import TrainConfig
from stiefel_lora.files import apply_lora, load_lora, read_tensors
from stiefel_lora.files.keys_sdxl import SDXL
from stiefel_lora.metrics.tags import tag_of
from stiefel_lora.training import TrainResult
from stiefel_lora.training.trainer import train

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def dora_config(tiny_sdxl: Path, root: Path, **changes: object) -> TrainConfig:
    settings: dict = {
        "use_dora": True,
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


def test_a_stock_pipeline_shows_the_trainers_own_image(
    tiny_sdxl: Path, whole: TrainResult
) -> None:
    own = own_image(tiny_sdxl, whole, alpha=4.0, use_dora=True)
    assert (own - stock_image(tiny_sdxl, None)).abs().max() > 1e-2
    path = whole.lora_files[1]
    assert (own - stock_image(tiny_sdxl, path)).abs().max() <= 1e-4


def test_comfyui_and_forge_make_the_weights_that_were_trained(
    tiny_sdxl: Path, whole: TrainResult
) -> None:
    kohya, peft = whole.lora_files
    tensors, metadata = read_tensors(kohya)
    assert metadata["ss_network_module"] == "networks.lora"
    denoiser = open_sdxl(tiny_sdxl).denoiser
    kinds = set()
    for name, factors in load_lora(peft).items():
        base = denoiser.get_submodule(name.partition(".")[2]).weight.detach()
        trained = apply_lora(base, factors)
        found = weight_in_comfyui(base, tensors, SDXL.to_kohya(name))
        assert (trained - base).abs().max() > 1e-3
        assert (found - trained).abs().max() <= 1e-6
        kinds.add(base.ndim)
        back = apply_lora(base, load_lora(kohya)[name])
        assert (back - trained).abs().max() <= 1e-6
    assert kinds == {2, 4}


def test_fused_layers_of_flux_are_made_with_parts_that_have_no_lora(
    tiny_flux: Path, tmp_path: Path
) -> None:
    """attn-only: proj_mlp is in the same layer of the file as q, k and v."""
    config = tiny_flux_config(
        tiny_flux, tmp_path, use_dora=True, learning_rate=0.3, steps=2
    )
    kohya, peft = train(config).lora_files
    tensors, weights = read_tensors(kohya)[0], load_lora(peft)
    denoiser = open_flux(tiny_flux).denoiser
    block = "single_transformer_blocks.0"
    parts = [*(f"{block}.attn.to_{x}" for x in "qkv"), f"{block}.proj_mlp"]
    bases = [denoiser.get_submodule(part).weight.detach() for part in parts]
    trained = [
        apply_lora(base, weights[f"transformer.{part}"]) if "attn" in part else base
        for part, base in zip(parts, bases, strict=True)
    ]
    whole = torch.cat(bases)
    found = weight_in_comfyui(whole, tensors, "lora_unet_single_blocks_0_linear1")
    assert (torch.cat(trained) - whole).abs().max() > 1e-3
    assert (found - torch.cat(trained)).abs().max() <= 1e-6


def test_ranks_are_those_of_the_part_that_has_one(
    tiny_sdxl: Path, whole: TrainResult
) -> None:
    path = whole.lora_files[1]
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
        ({"weight_dtype": "int8"}, "is not supported with weight_dtype='int8'"),
        ({"lora_init": "loi"}, "is not supported with lora_init='loi'"),
    ],
)
def test_settings_that_contradict_each_other(
    tiny_sdxl: Path, tmp_path: Path, changes: dict, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        dora_config(tiny_sdxl, tmp_path, **changes)

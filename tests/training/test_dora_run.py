"""A DoRA through the whole trainer: file, ranks, resume, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file

from helpers.fixtures import StopAfter
from helpers.runs import tiny_config
from stiefel_lora import ConfigError
from stiefel_lora.adapters import add_lora, load_factors
from stiefel_lora.config import TrainConfig
from stiefel_lora.families import SampleRequest
from stiefel_lora.families.sdxl import Sdxl
from stiefel_lora.files import load_lora
from stiefel_lora.optim.rank_probe import tag_of
from stiefel_lora.training import TrainResult
from stiefel_lora.training.checkpoint import load_checkpoint
from stiefel_lora.training.jsonl_sink import read_events
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
    assert whole.checkpoint is not None
    factors = load_checkpoint(whole.checkpoint).factors
    family = Sdxl(tiny_sdxl, torch.float32, torch.device("cpu"))
    targets = [n.removesuffix(".lora_A.default.weight") for n in factors if "_A." in n]
    settings = {"rank": 4, "alpha": 4.0, "targets": targets, "method": None, "seed": 0}
    add_lora(family.denoiser, use_dora=True, **settings)
    load_factors(family.denoiser, factors)
    request = SampleRequest(family.encode_caption("a thing"), None, 1, 2, 5.0, 32, 32)
    own = family.sample_pixels(request).clamp(-1, 1)
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl)
    base = _picture(pipeline)
    (path,) = whole.lora_files
    pipeline.load_lora_weights(path.parent, weight_name=path.name)
    assert (own - _picture(pipeline)).abs().max() <= 1e-4
    assert (own - base).abs().max() > 1e-2


def _picture(pipeline: StableDiffusionXLPipeline) -> torch.Tensor:
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


def test_ranks_are_those_of_the_part_that_has_one(
    tiny_sdxl: Path, whole: TrainResult
) -> None:
    (path,) = whole.lora_files
    found = load_lora(path)[f"unet.{LAYER}"]
    family = Sdxl(tiny_sdxl, torch.float32, torch.device("cpu"))
    base = family.denoiser.get_submodule(LAYER).weight.detach().double()
    product = found.up.double() @ found.down.double()
    assert found.magnitude is not None
    lengths = (base + product).norm(dim=1)
    scales = (found.magnitude.double() / lengths)[:, None]
    sigma = torch.linalg.svdvals(scales * product)[:4]
    share = sigma / sigma.sum()
    entropy = float(torch.exp(-torch.special.xlogy(share, share).sum()))
    values = _last_ranks(whole)
    assert values[tag_of("effective_rank", LAYER)] == pytest.approx(entropy, rel=1e-4)
    change = float(((scales - 1) * base).norm() / base.norm())
    found_change = values[tag_of("magnitude_change", LAYER)]
    assert found_change == pytest.approx(change, rel=1e-3)
    assert 0 < found_change <= values["magnitude_change/largest"]
    assert values["orthogonality/largest"] < 1e-5


def _last_ranks(result: TrainResult) -> dict[str, float]:
    events = read_events(result.run_dir / "events.jsonl")
    return [event["values"] for event in events if event["type"] == "ranks"][-1]


def test_a_resumed_run_ends_the_same(
    tiny_sdxl: Path, root: Path, whole: TrainResult, stop_after: StopAfter
) -> None:
    config = dora_config(tiny_sdxl, root, run_name="stopped")
    with stop_after(2, "stop"):
        stopped = train(config)
    resumed = train(config, resume=stopped.run_dir)
    assert whole.checkpoint is not None
    assert resumed.checkpoint is not None
    expected = load_file(whole.checkpoint / "lora.safetensors")
    found = load_file(resumed.checkpoint / "lora.safetensors")
    assert any("magnitude" in name for name in expected)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


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

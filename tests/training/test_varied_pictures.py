"""Buckets, masks, changing images and captions in real runs that are cut in two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from helpers.fixtures import StopAfter
from helpers.runs import assert_same_factors, factors_of, tiny_config
from helpers.varied import SHAPES, varied_settings
from stiefel_lora.config import TrainConfig
from stiefel_lora.training import TrainResult
from stiefel_lora.training.state import TrainingState
from stiefel_lora.training.trainer import train


def varied(model: Path, root: Path, **changes: Any) -> TrainConfig:
    return tiny_config(model, root, **{**varied_settings(root), "steps": 7, **changes})


@pytest.mark.slow
@pytest.mark.parametrize("latent_caching", [True, False])
def test_a_run_cut_inside_a_pass_ends_the_same(
    tiny_sdxl: Path, tmp_path: Path, stop_after: StopAfter, latent_caching: bool
) -> None:
    """Ten visits are a pass: after step 3, of two images each, it is not over."""
    changes = {"latent_caching": latent_caching}
    whole = train(varied(tiny_sdxl, tmp_path, run_name="whole", **changes))
    config = varied(tiny_sdxl, tmp_path, **changes)
    with stop_after(3, "stop"):
        stopped = train(config)
    assert stopped.interrupted
    assert_same_factors(whole, train(config, resume="last"))


MARKUP = {
    "enable_wildcard": True,
    "keep_tags_separator": "|||",
    "secondary_separator": ";;;",
    "caption_extension": ".caption",
}
MARKED = "{thing|stuff}, {red|blue} ||| small;;;old, worn, {big|tiny}\nanother, line"


@pytest.mark.slow
@pytest.mark.parametrize("trained", [False, True], ids=["cached", "trained"])
def test_a_run_with_wildcards_that_is_cut_ends_the_same(
    tiny_sdxl: Path, tmp_path: Path, stop_after: StopAfter, trained: bool
) -> None:
    encoders = {"train_text_encoder": trained, "train_text_encoder_2": trained}
    changes = {"concepts": with_concept(tmp_path, 0, **MARKUP), **encoders}
    for path in (tmp_path / "shapes").glob("*.txt"):
        path.with_suffix(".caption").write_text(MARKED)
    whole = train(varied(tiny_sdxl, tmp_path, run_name="whole", **changes))
    with stop_after(3, "stop"):
        assert train(varied(tiny_sdxl, tmp_path, **changes)).interrupted
    again = train(varied(tiny_sdxl, tmp_path, **changes), resume="last")
    assert_same_factors(whole, again)
    plain = {"concepts": with_concept(tmp_path, 0, caption_extension=".caption")}
    other = train(varied(tiny_sdxl, tmp_path, run_name="plain", **plain, **encoders))
    assert not same(whole, other)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """Every batch that a run trained on."""
    seen: list[dict[str, torch.Tensor]] = []
    loss = TrainingState.loss

    def record(self: TrainingState, visits: Any, noise: Any) -> torch.Tensor:
        visits = list(visits)
        seen.append(self.images.batch(visits))
        return loss(self, visits, noise)

    monkeypatch.setattr(TrainingState, "loss", record)
    return seen


def test_images_of_several_resolutions_are_resumed_to_the_bit(
    tiny_sdxl: Path,
    tmp_path: Path,
    stop_after: StopAfter,
    batches: list[dict[str, torch.Tensor]],
) -> None:
    settings = {
        "steps": 12,
        "batch_size": 1,
        "concepts": with_concept(tmp_path, 0, resolutions=[32, 48]),
        "allow_upscaling": True,
        "validate_every": 12,
    }
    whole = train(varied(tiny_sdxl, tmp_path, run_name="whole", **settings))
    sides = {(b["latents"].shape[-2] * b["latents"].shape[-1]) for b in batches}
    # Of 32 x 32 and 48 x 48 pixels at most, and of their buckets.
    assert {64, 144} <= sides
    sizes = {tuple(batch["time_ids"][0, 4:].tolist()) for batch in batches}
    assert {(32, 32), (48, 48)} <= sizes
    with safe_open(whole.lora_files[0], "pt") as file:
        notes = file.metadata()
    # Five images, at any number of resolutions.
    counts = {"shapes": {"n_repeats": 1, "img_count": 5}}
    assert json.loads(notes["ss_dataset_dirs"]) == counts
    with stop_after(5, "stop"):
        assert train(varied(tiny_sdxl, tmp_path, **settings)).interrupted
    again = train(varied(tiny_sdxl, tmp_path, **settings), resume="last")
    assert_same_factors(whole, again)


def test_batches_have_masks_weights_and_all_shapes(
    tiny_sdxl: Path, tmp_path: Path, batches: list[dict[str, torch.Tensor]]
) -> None:
    config = varied(tiny_sdxl, tmp_path, steps=16, batch_size=1, unmasked_probability=0)
    train(config)
    assert {batch["latents"].shape[-2:] for batch in batches} == {
        (h // 4, w // 4) for w, h in [(32, 32), (40, 24), (24, 40)]
    }
    masks = [batch["mask"] for batch in batches]
    for mask, batch in zip(masks, batches, strict=True):
        assert mask.shape == (1, 1, *batch["latents"].shape[-2:])
        assert float(batch["loss_weight"]) in (1.0, 0.5)
    # The mask of one image covers a quarter of it, on the left or, mirrored, right.
    assert {round(float(mask.mean()), 2) for mask in masks} == {1.0, 0.25}


def test_time_ids_follow_size_and_crop(
    tiny_sdxl: Path, tmp_path: Path, batches: list[dict[str, torch.Tensor]]
) -> None:
    train(varied(tiny_sdxl, tmp_path, steps=16, batch_size=1))
    for batch in batches:
        height, width, top, left, target_height, target_width = batch["time_ids"][0]
        assert (int(width), int(height)) in SHAPES
        assert (target_height // 4, target_width // 4) == batch["latents"].shape[-2:]
        assert top >= 0
        assert left >= 0


@pytest.mark.parametrize(
    "setting", ["masks", "weights", "captions", "shuffling", "tags", "colors"]
)
def test_each_setting_changes_what_is_learned(
    tiny_sdxl: Path, tmp_path: Path, setting: str
) -> None:
    changes = {
        "masks": {"masked_training": False},
        "weights": {"concepts": with_concept(tmp_path, 1, loss_weight=0.0)},
        "captions": {"concepts": with_concept(tmp_path, 0, caption_dropout_rate=1)},
        "shuffling": {
            "concepts": with_concept(tmp_path, 0, enable_tag_shuffling=False)
        },
        "tags": {"concepts": with_concept(tmp_path, 0, tag_dropout_probability=0)},
        "colors": {"concepts": with_concept(tmp_path, 0, random_hue_max_strength=0)},
    }[setting]
    plain = varied(tiny_sdxl, tmp_path, run_name="plain", steps=3)
    first, second = train(plain), train(varied(tiny_sdxl, tmp_path, steps=3, **changes))
    assert not same(first, second)


def with_concept(root: Path, number: int, **changes: Any) -> list[dict[str, Any]]:
    concepts = varied_settings(root)["concepts"]
    concepts[number] |= changes
    return concepts


def same(first: TrainResult, second: TrainResult) -> bool:
    one, other = factors_of(first), factors_of(second)
    return all(torch.equal(one[name], other[name]) for name in one)


def test_damaged_cache_is_reported_and_rebuilt(tiny_sdxl: Path, tmp_path: Path) -> None:
    from stiefel_lora import DataError

    config = varied(tiny_sdxl, tmp_path, steps=1)
    train(config)
    for path in (tmp_path / "cache").rglob("*.safetensors"):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    # One damaged file is found and removed a run, whatever its content was.
    with pytest.raises(DataError, match="Resume with --resume to create it"):
        train(varied(tiny_sdxl, tmp_path, steps=1, masked_training=False))

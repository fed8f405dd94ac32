"""One whole run on a tiny random SDXL, and everything it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from helpers.runs import factors_of, last_ranks, tiny_config
from stiefel_lora.files import load_lora
from stiefel_lora.metrics.tags import AVERAGE_LOSS
from stiefel_lora.training import TrainResult, read_events
from stiefel_lora.training.trainer import train

SAMPLES = [
    {"prompt": "thing 1", "steps": 2},
    {"prompt": "another thing", "negative_prompt": "dull", "steps": 2, "guidance": 3.0},
    {"prompt": "thing 1", "steps": 2, "seed": 5},
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def result(root: Path, tiny_sdxl: Path) -> TrainResult:
    config = tiny_config(
        tiny_sdxl,
        root,
        validate_every=2,
        sample_every=4,
        rank_every=2,
        checkpoint_every=2,
        keep_checkpoints=1,
        gradient_accumulation_steps=2,
        samples=SAMPLES,
    )
    return train(config)


@pytest.fixture(scope="module")
def events(result: TrainResult) -> list[dict]:
    return list(read_events(result.run_dir / "events.jsonl"))


def test_the_result_has_all_paths(result: TrainResult) -> None:
    assert result.step == 4
    assert not result.interrupted
    assert [path.name for path in result.lora_files] == [
        "tiny.safetensors",
        "tiny_peft.safetensors",
    ]
    assert all(path.is_file() for path in result.lora_files)
    assert result.checkpoint is not None
    assert result.checkpoint.name == "step-4"
    assert result.pictures == 4


def test_run_folder_has_its_parts(result: TrainResult) -> None:
    names = {path.name for path in result.run_dir.iterdir()}
    assert names == {
        "checkpoints",
        "commands",
        "config.json",
        "events.jsonl",
        "lora",
        "samples",
        "tensorboard",
    }
    config = json.loads((result.run_dir / "config.json").read_text())
    assert config["lora_rank"] == 4


def test_only_the_last_checkpoint_is_kept(result: TrainResult) -> None:
    kept = list((result.run_dir / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["step-4"]


def test_validation_loss_is_measured_first_and_last(
    result: TrainResult, events: list[dict]
) -> None:
    steps = [event["step"] for event in events if event["type"] == "validation"]
    assert steps == [0, 2, 4]
    assert result.validation_before is not None
    assert result.validation_after != result.validation_before


def test_the_loss_of_each_validation_image_is_logged(events: list[dict]) -> None:
    means = [
        e["values"]["validation/loss"] for e in events if e["type"] == "validation"
    ]
    by_image = [e["values"]["loss"] for e in events if e["type"] == "validation_images"]
    assert len(by_image) == len(means) == 3
    for losses, mean in zip(by_image, means, strict=True):
        assert sum(losses) / len(losses) == pytest.approx(mean, abs=1e-6)


def test_the_validation_loss_is_logged_by_timesteps(
    events: list[dict], result: TrainResult
) -> None:
    values = [e["values"] for e in events if e["type"] == "validation"]
    names = ["validation/timesteps_000-499", "validation/timesteps_500-999"]
    for found in values:
        assert list(found) == ["validation/loss", *names]
        assert found["validation/loss"] == pytest.approx(
            (found[names[0]] + found[names[1]]) / 2, rel=1e-6
        )
        assert found[names[0]] != found[names[1]]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(result.run_dir / "tensorboard")).Reload()
    assert [event.step for event in read.Scalars(names[0])] == [0, 2, 4]


def test_every_line_has_type_step_time_and_values(events: list[dict]) -> None:
    assert all(set(event) == {"type", "step", "time", "values"} for event in events)
    kinds = [event["type"] for event in events]
    assert kinds[0] == "start"
    assert kinds[-1] == "end"
    assert kinds.count("train") == 4


def test_every_block_has_its_ranks(result: TrainResult) -> None:
    values = last_ranks(result)
    effective = {tag for tag in values if tag.startswith("effective_rank.")}
    assert len(effective) == 12
    assert all(tag.startswith("effective_rank.down_blocks.1/") for tag in effective)
    assert all(0 <= values[tag] <= 4.0001 for tag in effective)
    assert values["orthogonality/largest"] < 1e-5
    assert result.lowest_effective_rank == min(values[tag] for tag in effective)


def test_lora_file_holds_what_was_trained(result: TrainResult) -> None:
    weights = load_lora(result.lora_files[0])
    assert len(weights) == 12
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    factors = factors_of(result)
    assert torch.equal(
        weights[f"unet.{name}"].up, factors[f"{name}.lora_B.default.weight"]
    )
    assert weights[f"unet.{name}"].alpha == 4


def test_grid_shows_samples_before_and_after(result: TrainResult) -> None:
    assert result.before_after is not None
    with Image.open(result.before_after) as grid:
        assert grid.width > 2 * 160
        assert grid.height > 2 * 160
    samples = result.run_dir / "samples"
    # Same seeds: what differs is what was learned.
    first, last = (
        [Image.open(path).tobytes() for path in sorted(samples.glob(f"step-{n:06d}-*"))]
        for n in (0, 4)
    )
    assert len(first) == len(SAMPLES)
    assert all(one != other for one, other in zip(first, last, strict=True))


def test_tensorboard_can_be_read_back(result: TrainResult, events: list[dict]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(result.tensorboard_dir), size_guidance={"images": 0})
    reader.Reload()
    tags = reader.Tags()
    losses = [e["values"]["loss/train"] for e in events if e["type"] == "train"]
    assert [e.value for e in reader.Scalars("loss/train")] == pytest.approx(losses)
    assert {"validation/loss", "lr/unet", "effective_rank/mean"} <= set(tags["scalars"])
    block = "down_blocks.1/attentions.0.transformer_blocks.0.attn1.to_q"
    assert [e.step for e in reader.Scalars(f"effective_rank.{block}")] == [2, 4]
    # Only with all_block_charts (test_trackers.py).
    details = ("stable_rank.", "orthogonality.")
    assert not [tag for tag in tags["scalars"] if tag.startswith(details)]
    assert "effective_rank/blocks" in tags["histograms"]
    assert "effective_rank/blocks_over_time" in tags["images"]
    assert {"samples/thing 1", "samples/another thing"} <= set(tags["images"])
    # Two samples of one prompt have a tag each.
    assert [e.step for e in reader.Images("samples/thing 1 (2)")] == [0, 4]


def test_the_average_of_the_loss_is_bias_corrected(events: list[dict]) -> None:
    """Each loss counts 0.98 as much as the one after it; the weights add up to 1."""
    values = [e["values"] for e in events if e["type"] == "train"]
    losses = [value["loss/train"] for value in values]
    for n, value in enumerate(values, 1):
        weights = [0.98 ** (n - 1 - i) for i in range(n)]
        expected = sum(w * x for w, x in zip(weights, losses, strict=False))
        assert value[AVERAGE_LOSS] == pytest.approx(expected / sum(weights), rel=1e-12)


def test_images_that_are_never_looked_at_are_not_encoded(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    """Two validation images, with captions of the four that are trained."""
    entries = []
    for every in (0, 4):
        cache = tmp_path / f"cache-{every}"
        changes = {"validate_every": every, "cache_dir": str(cache), "steps": 1}
        train(tiny_config(tiny_sdxl, tmp_path, **changes))
        entries.append(len(list(cache.rglob("*.safetensors"))))
    assert entries[1] == entries[0] + 2

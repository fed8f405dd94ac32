"""Small runs for tests of training, and what they leave behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from stiefel_lora.config import TrainConfig, parse_config
from stiefel_lora.training import TrainResult, read_events

__all__ = [
    "assert_same_factors",
    "assert_same_tensors",
    "factors_of",
    "last_ranks",
    "make_images",
    "tiny_config",
    "tiny_flux_config",
]


def make_images(folder: Path, count: int = 4, side: int = 32, seed: int = 0) -> Path:
    """Write ``count`` noisy PNG pictures with captions."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for index in range(count):
        pixels = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
        (folder / f"{index:02d}.txt").write_text(f"thing {index}", encoding="utf-8")
    return folder


def tiny_config(model: Path, root: Path, **changes: Any) -> TrainConfig:
    """A run of seconds: 32 px, rank 4, attention of the second level only."""
    settings: dict[str, Any] = {
        "run_name": "tiny",
        "output_dir": str(root / "runs"),
        "base_model_name": str(model),
        "concepts": [{"path": str(make_images(root / "train"))}],
        "validation_concepts": [
            {"path": str(make_images(root / "held_out", count=2, seed=1))}
        ],
        "resolution": 32,
        "batch_size": 2,
        "steps": 4,
        "train_dtype": "float32",
        "weight_dtype": "float32",
        "device": "cpu",
        "lora_rank": 4,
        "layer_filter": ["down_blocks.1.attentions.0"],
        "validation_timesteps_per_picture": 2,
        "output_dtype": "float32",
        **changes,
    }
    return parse_config(settings)


def tiny_flux_config(model: Path, root: Path, **changes: Any) -> TrainConfig:
    """The same on a FLUX.1 of one double and one single block: all attention."""
    settings = {
        "model_type": "flux",
        "layer_filter": [],
        "layer_filter_preset": "attn-only",
        "text_encoder_2_sequence_length": 16,
        **changes,
    }
    return tiny_config(model, root, **settings)


def factors_of(result: TrainResult) -> dict[str, torch.Tensor]:
    """What the run's last checkpoint holds of its LoRA, by name."""
    assert result.checkpoint is not None
    return load_file(result.checkpoint / "lora.safetensors")


def assert_same_factors(first: TrainResult, second: TrainResult) -> None:
    """Both runs must have ended with the same bits, not all of them zero."""
    assert_same_tensors(factors_of(first), factors_of(second))


def assert_same_tensors(
    expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]
) -> None:
    """Both must hold the same bits, not all of them zero."""
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert any(value.any() for value in found.values())


def last_ranks(result: TrainResult) -> dict[str, float]:
    """The values of the run's last event about ranks."""
    events = read_events(result.run_dir / "events.jsonl")
    return [event["values"] for event in events if event["type"] == "ranks"][-1]

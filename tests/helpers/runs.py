"""Small configurations and pictures for tests of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stiefel_lora.config import TrainConfig, parse_config

__all__ = ["make_pictures", "tiny_config"]


def make_pictures(folder: Path, count: int = 4, side: int = 32, seed: int = 0) -> Path:
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
        "concepts": [{"path": str(make_pictures(root / "train"))}],
        "validation_concepts": [
            {"path": str(make_pictures(root / "held_out", count=2, seed=1))}
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

"""A run folder as a training leaves it, without the training."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from stiefel_lora.runs.events import JsonlSink

__all__ = ["WrittenRun"]


class WrittenRun:
    """Writes a run's events with the sink that training writes them with."""

    def __init__(
        self, root: Path, *, blocks: int = 6, steps: int = 100, rank: int = 16
    ) -> None:
        self.root = root
        self.rank, self.steps = rank, steps
        self.blocks = [f"down_blocks.{i // 3}/layer.{i % 3}" for i in range(blocks)]
        for part in ("samples", "tensorboard", "commands", "lora"):
            (root / part).mkdir(parents=True)
        config = {"steps": steps, "samples": [{"prompt": "a cat"}]}
        (root / "config.json").write_text(json.dumps(config), encoding="utf-8")
        self.sink = JsonlSink(root / "events.jsonl")

    def start(self, kind: str = "start", step: int = 0) -> None:
        """The training starts or goes on."""
        self.sink.event(kind, step, {"steps": self.steps, "rank": self.rank})

    def train(self, step: int, loss: float = 0.5) -> None:
        """One step."""
        values = {"loss/train": loss, "loss/train_smooth": loss, "lr/unet": 1e-3}
        self.sink.scalars("train", step, values)

    def ranks(self, step: int, share: float = 0.5) -> None:
        """A measurement in which every block uses ``share`` of its rank."""
        values = {"effective_rank/mean": share * self.rank}
        for name in self.blocks:
            values[f"effective_rank.{name}"] = share * self.rank
            values[f"stable_rank.{name}"] = 2.0
            values[f"orthogonality.{name}"] = 1e-6
        self.sink.scalars("ranks", step, values)

    def sample(self, step: int) -> None:
        """A sample picture."""
        name = f"step-{step:06d}-0.png"
        Image.new("RGB", (64, 64), "orange").save(self.root / "samples" / name)
        self.sink.event("sample", step, {"files": [name]})

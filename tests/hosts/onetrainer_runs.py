"""Runs of the unmodified OneTrainer on tiny models, and what they leave behind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from unmodified_host import UnmodifiedHost

from helpers.runs import make_images

__all__ = ["EPOCHS", "PICTURES", "Runs", "assert_same_products", "products"]

HERE = Path(__file__).parent
PICTURES, EPOCHS = 4, 3


class Runs:
    """Trains in a folder; a run's config, file and recorded steps bear its name."""

    def __init__(self, host: UnmodifiedHost, folder: Path) -> None:
        self.host, self.folder = host, folder
        make_images(folder / "pictures", count=PICTURES, side=64)
        concept = {"name": "thing", "path": str(folder / "pictures"), "enabled": True}
        (folder / "concepts.json").write_text(json.dumps([concept]), "utf-8")
        (folder / "samples.json").write_text("[]", "utf-8")

    def make_model(self, kind: str) -> Path:
        """A random model of a kind, as a diffusers folder."""
        self.host.run(HERE / "onetrainer_model.py", kind, self.folder / kind)
        return self.folder / kind

    def train(self, name: str, optimizer: str = "Stiefel LoRA", **changes: Any) -> str:
        """Train to the end; what was printed."""
        return self.host.run(*self._command(name, optimizer, changes))

    def refuse(self, name: str, optimizer: str, **changes: Any) -> str:
        """Try to train with what is not allowed; what was printed."""
        return self.host.run(*self._command(name, optimizer, changes), code=2)

    def config(
        self,
        name: str,
        optimizer: str = "Stiefel LoRA",
        settings: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Path:
        """Write a config that differs in what is given, optimizer settings too."""
        folder, part = self.folder, {"weight_dtype": "FLOAT_32", "train": False}
        config = {
            "__version": 11,
            "training_method": "LORA",
            "model_type": "STABLE_DIFFUSION_15",
            "base_model_name": str(folder / "sd15"),
            "workspace_dir": str(folder / name),
            "cache_dir": str(folder / "cache"),
            "tensorboard": False,
            "concept_file_name": str(folder / "concepts.json"),
            "sample_definition_file_name": str(folder / "samples.json"),
            "sample_after_unit": "NEVER",
            "backup_after_unit": "NEVER",
            "resolution": "64",
            "batch_size": 1,
            "epochs": EPOCHS,
            "learning_rate": 1e-2,
            "learning_rate_warmup_steps": 0,
            "train_device": "cpu",
            "temp_device": "cpu",
            "train_dtype": "FLOAT_32",
            "unet": part | {"train": True},
            "text_encoder": part,
            "text_encoder_2": part,
            "vae": part,
            "lora_rank": 4,
            "dataloader_threads": 1,
            "layer_filter": "attentions",
            "output_dtype": "FLOAT_32",
            "output_model_format": "KOHYA_LORA",
            "output_model_destination": str(self.path(name)),
            "optimizer": {"optimizer": optimizer, **(settings or {})},
            **changes,
        }
        path = folder / f"{name}.json"
        path.write_text(json.dumps(config), "utf-8")
        return path

    def step_config(
        self, name: str, settings: Mapping[str, Any] | None = None, **changes: Any
    ) -> None:
        """Write a config of one step with AdamW and three images of one size."""
        usual = {"aspect_ratio_bucketing": False, "batch_size": 3, "epochs": 1}
        self.config(name, "ADAMW", settings, **usual, **changes)

    def take_steps(self, names: Iterable[str]) -> None:
        """Take one step of each config with the batch in the folder, in one process."""
        (self.folder / "cases.json").write_text(json.dumps([*names]), encoding="utf-8")
        self.host.run(HERE / "onetrainer_one_step.py", self.host.root, self.folder)

    def path(self, name: str) -> Path:
        """The LoRA file that a run ends with."""
        return self.folder / f"{name}.safetensors"

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        """What is in that file."""
        return load_file(self.path(name))

    def dump(self, name: str) -> Path:
        """The file of a run's recorded steps."""
        return self.folder / f"{name}.pt"

    def steps(self, name: str) -> list[dict[str, Any]]:
        """Those steps."""
        return torch.load(self.dump(name), weights_only=True)

    def _command(
        self, name: str, optimizer: str, changes: Mapping[str, Any]
    ) -> list[str | Path]:
        path = self.config(name, optimizer, **changes)
        launch = HERE / "onetrainer_launch.py"
        root = self.host.root
        return [launch, self.dump(name), root, "train", "--config-path", path]


def products(weights: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """B A alpha / r of every layer in a file or in a recorded step, by any naming.

    Without an alpha it is the rank.
    """
    found = []
    for name, up in weights.items():
        for marks in (("lora_up", "lora_down"), ("lora_B", "lora_A")):
            if not name.endswith(f"{marks[0]}.weight"):
                continue
            down = weights[name.replace(*marks)]
            alpha = weights.get(name.replace(f"{marks[0]}.weight", "alpha"))
            scale = 1.0 if alpha is None else float(alpha) / up.shape[1]
            found.append(scale * up.flatten(1) @ down.flatten(1))
    return found


def assert_same_products(
    expected: Iterable[torch.Tensor], found: Iterable[torch.Tensor]
) -> None:
    """Both hold the same products up to order, none of them zero."""
    left = list(found)
    for product in expected:
        assert product.any()
        same = [
            index
            for index, other in enumerate(left)
            if other.shape == product.shape
            and torch.allclose(other, product, rtol=1e-5, atol=1e-7)
        ]
        assert len(same) == 1
        del left[same[0]]
    assert not left

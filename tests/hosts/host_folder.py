"""A folder that tests fill and hosts read: a tiny model, inputs, LoRA files.

Runs in every host's environment: torch and safetensors only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

__all__ = ["HostFolder", "joint_encoders"]


class HostFolder:
    """What lies where, as the host is to see it."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def config(self, part: str) -> dict[str, Any]:
        """config.json of a part of the pipeline."""
        return json.loads((self.root / "model" / part / "config.json").read_text())

    def denoiser(self, part: str) -> dict[str, torch.Tensor]:
        """Weights of ``unet`` or ``transformer`` under diffusers' names."""
        (file,) = (self.root / "model" / part).glob("*.safetensors")
        return load_file(file)

    def encoder(self, name: str) -> dict[str, torch.Tensor]:
        """Weights of the layers of ``clip`` or ``t5``, named as in transformers 4."""
        return load_file(self.root / f"{name}.safetensors")

    def inputs(self) -> dict[str, torch.Tensor]:
        """What the denoiser is given, in one batch."""
        return load_file(self.root / "inputs.safetensors")

    def loras(self) -> list[Path]:
        """The LoRA files."""
        return sorted((self.root / "loras").glob("*.safetensors"))

    def write(
        self, file: Path, unmatched: list[str], tensors: dict[str, torch.Tensor]
    ) -> None:
        """Leave what the host made of a LoRA file."""
        found = self.root / "found"
        found.mkdir(exist_ok=True)
        (found / f"{file.stem}.json").write_text(json.dumps(sorted(unmatched)))
        kept = {name: value.detach().clone() for name, value in tensors.items()}
        save_file(kept, found / file.name)

    def read(self, file: Path) -> tuple[list[str], dict[str, torch.Tensor]]:
        """What :meth:`write` left."""
        found = self.root / "found" / file.name
        unmatched = json.loads(found.with_suffix(".json").read_text())
        return unmatched, load_file(found)


def joint_encoders(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights of both encoders in ComfyUI's and Forge's joint model, by our names."""
    found = {}
    for name, weight in model.state_dict().items():
        for theirs, ours in (("clip_l", "clip"), ("t5xxl", "t5")):
            prefix = f"{theirs}.transformer."
            if name.startswith(prefix):
                found[f"{ours}.{name.removeprefix(prefix)}"] = weight
    return found

"""Text encoders of a tiny pipeline, as hosts get them and as they must become."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from host_folder import HostFolder
from safetensors.torch import save_file

from stiefel_lora.files import canonical_name, load_lora

__all__ = ["ENCODERS", "encoder_weights", "save_encoders"]

ENCODERS = {"clip": "text_encoder", "t5": "text_encoder_2"}
LAYERS = {"clip": "encoder.layers.", "t5": "encoder.block."}


def save_encoders(root: Path, pipeline: DiffusionPipeline) -> None:
    """Write the layers' weights under the names of transformers 4."""
    for short, component in ENCODERS.items():
        encoder = getattr(pipeline, component, None)
        if encoder is not None:
            weights = {
                canonical_name(component, path).partition(".")[2]: weight.clone()
                for path, weight in encoder.state_dict().items()
                if LAYERS[short] in path
            }
            save_file(weights, root / f"{short}.safetensors")


def encoder_weights(folder: HostFolder, file: Path) -> dict[str, torch.Tensor]:
    """Weights of the text encoders' layers with their LoRAs: W + scale B A."""
    short = {component: name for name, component in ENCODERS.items()}
    found = {}
    for name, factors in load_lora(file).items():
        component, _, path = name.partition(".")
        if component in short:
            weight = folder.encoder(short[component])[f"{path}.weight"]
            delta = factors.scale * factors.up @ factors.down
            found[f"{short[component]}.{path}.weight"] = weight + delta
    return found

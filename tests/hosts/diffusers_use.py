"""Draw one picture with a LoRA file and one without, and tell how far they differ.

    python diffusers_use.py MODEL_FOLDER LORA_FOLDER

The pipeline is the stock one of the model's folder.
"""

from __future__ import annotations

import sys

import loadable_torchvision  # noqa: F401
import numpy as np
import torch
from diffusers import DiffusionPipeline


def main(model: str, lora: str) -> None:
    """Print the largest difference, of numbers from 0 to 1."""
    pipeline = DiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32)

    def draw() -> np.ndarray:
        return pipeline(
            "a thing",
            width=64,
            height=64,
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        ).images[0]

    without = draw()
    pipeline.load_lora_weights(lora)
    print("difference:", np.abs(draw() - without).max())


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The same picture by our sampler and by a stock diffusers pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline

from stiefel_lora.adapters import add_lora, load_factors
from stiefel_lora.families import SampleRequest
from stiefel_lora.training import TrainResult
from stiefel_lora.training.checkpoint import load_checkpoint

from .families import open_sdxl

__all__ = ["own_picture", "stock_picture"]

CAPTION, SEED, STEPS, GUIDANCE, SIDE = "a thing", 1, 2, 5.0, 32


def own_picture(tiny_sdxl: Path, result: TrainResult, **lora: Any) -> torch.Tensor:
    """Pixels (3, 32, 32) in [-1, 1] with the factors of the run's checkpoint."""
    assert result.checkpoint is not None
    factors = load_checkpoint(result.checkpoint).factors
    family = open_sdxl(tiny_sdxl)
    targets = [n.removesuffix(".lora_A.default.weight") for n in factors if "_A." in n]
    add_lora(family.denoiser, rank=4, targets=targets, method=None, seed=0, **lora)
    load_factors(family.denoiser, factors)
    caption = family.encode_caption(CAPTION)
    request = SampleRequest(caption, None, SEED, STEPS, GUIDANCE, SIDE, SIDE)
    return family.sample_pixels(request).clamp(-1, 1)


def stock_picture(tiny_sdxl: Path, lora: Path | None) -> torch.Tensor:
    """The same, by the pipeline, with the LoRA file or without."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl)
    if lora is not None:
        pipeline.load_lora_weights(lora.parent, weight_name=lora.name)
    images = pipeline(
        CAPTION,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        width=SIDE,
        height=SIDE,
        generator=torch.Generator("cpu").manual_seed(SEED),
        output_type="pt",
    ).images
    return images[0] * 2 - 1

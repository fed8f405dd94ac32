"""The same picture by our sampler and by a stock diffusers pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import FluxPipeline, StableDiffusionXLPipeline

from stiefel_lora.adapters import add_lora, load_factors
from stiefel_lora.families import SampleRequest
from stiefel_lora.training import TrainResult
from stiefel_lora.training.checkpointing.checkpoint import load_checkpoint

from .families import open_flux, open_sdxl

__all__ = ["own_image", "stock_image"]

CAPTION, SEED, STEPS, GUIDANCE, SIDE = "a thing", 1, 2, 5.0, 32
OPEN: dict[str, Any] = {"sdxl": open_sdxl, "flux": open_flux}
PIPELINES: dict[str, Any] = {"sdxl": StableDiffusionXLPipeline, "flux": FluxPipeline}


def own_image(
    model: Path, result: TrainResult, *, family: str = "sdxl", **lora: Any
) -> torch.Tensor:
    """Pixels (3, 32, 32) in [-1, 1] with the factors of the run's checkpoint."""
    assert result.checkpoint is not None
    factors = load_checkpoint(result.checkpoint).factors
    opened = OPEN[family](model)
    ranks = {
        name.removesuffix(".lora_A.default.weight"): len(value)
        for name, value in factors.items()
        if "_A." in name
    }
    lora |= {"targets": list(ranks), "ranks": ranks}
    add_lora(opened.denoiser, rank=4, method=None, seed=0, **lora)
    load_factors(opened.denoiser, factors)
    caption = opened.encode_caption(CAPTION)
    request = SampleRequest(caption, None, SEED, STEPS, GUIDANCE, SIDE, SIDE)
    return opened.sample_pixels(request).clamp(-1, 1)


def stock_image(
    model: Path, lora: Path | None, *, family: str = "sdxl"
) -> torch.Tensor:
    """The same, by the pipeline, with the LoRA file or without."""
    pipeline = PIPELINES[family].from_pretrained(model)
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

"""Training steps of SDXL and FLUX with random weights: time and peak memory.

At 1,024 px and rank 16 in bfloat16 with gradient checkpointing, without VAE and text
encoders; the base model in bfloat16 or in 4 bits. Beside the measured peak stands the
estimate that ``stiefel-lora validate`` prints, without the CUDA context, which torch
does not count. With ``toy``, the demo's small models at 64 px take the same path.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from peft import LoraConfig

from stiefel_lora import create_optimizer
from stiefel_lora.checkpoints.quantized import quantize_
from stiefel_lora.config import parse_config
from stiefel_lora.memory import estimate_memory

__all__ = ["MODELS", "full_size_step"]

PACKAGE = Path(__file__).resolve().parents[1] / "modules" / "stiefel_lora"
MODELS: dict[str, tuple[Any, str]] = {
    "sdxl": (UNet2DConditionModel, "unet"),
    "flux": (FluxTransformer2DModel, "transformer"),
}
RANK = 16
LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]


def full_size_step(
    name: str,
    method: str,
    device: torch.device,
    *,
    toy: bool,
    steps: int = 5,
    weights: str = "bfloat16",
) -> dict[str, Any]:
    """Time training steps of one model with one method.

    Args:
        name: of :data:`MODELS`.
        method: optimizer.
        device: where it runs.
        toy: the demo's model.
        steps: number of timed steps, after one that sets up states.
        weights: of the base model, ``bfloat16`` or ``nfloat4``.

    Returns:
        Medians in milliseconds, the optimizer's share, and the peak memory in GB, which
        is NaN without a GPU, beside the estimated one.
    """
    torch.manual_seed(0)
    model, settings = _model(name, device, toy, weights)
    pairs = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    optimizer = create_optimizer(method, pairs)
    inputs = _inputs(name, settings, device, 64 if toy else 1024)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    whole, own = [], []
    for number in range(steps + 1):
        began = _now(device)
        with torch.autocast(device.type, torch.bfloat16):
            loss = model(**inputs, return_dict=False)[0].float().square().mean()
        loss.backward()
        before = _now(device)
        optimizer.step()
        ended = _now(device)
        optimizer.zero_grad()
        if number:
            whole.append(ended - began)
            own.append(ended - before)
    peak = math.nan
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 1e9
    return {
        "model": name,
        "weights": weights,
        "method": method,
        "LoRA layers": len(pairs) // 2,
        "step ms": 1e3 * statistics.median(whole),
        "optimizer ms": 1e3 * statistics.median(own),
        "optimizer share": statistics.median(own) / statistics.median(whole),
        "peak GB": peak,
        "computed peak GB": estimated_bytes(name, method, toy, weights) / 1e9,
        "finite": all(bool(p.isfinite().all()) for _, p in pairs),
    }


def estimated_bytes(name: str, method: str, toy: bool, weights: str) -> int:
    """Return our estimate for such a step, without the CUDA context."""
    config = parse_config(
        {
            "model_type": name,
            # Whole parts of names: peft adapts all layers that end like this.
            "layer_filter": [f"*.{layer}" for layer in LAYERS],
            "lora_rank": RANK,
            "resolution": 64 if toy else 1024,
            "batch_size": 1,
            "weight_dtype": weights,
            "train_dtype": "bfloat16",
            "gradient_checkpointing": True,
            "optimizer": {"name": method},
            "device": "cpu",
        }
    )
    parts = {part: _settings(name, part, toy) for part in (MODELS[name][1], "vae")}
    return estimate_memory(config, parts).training


def _settings(name: str, part: str, toy: bool) -> dict[str, Any]:
    path = PACKAGE / "demo" / name / part / "config.json"
    if not toy:
        path = PACKAGE / "families" / "known" / name / f"{part}.json"
    return json.loads(path.read_text("utf-8"))


def _model(
    name: str, device: torch.device, toy: bool, weights: str
) -> tuple[torch.nn.Module, dict[str, Any]]:
    loader, part = MODELS[name]
    settings = _settings(name, part, toy)
    with torch.device(device):
        model = loader.from_config(settings).to(torch.bfloat16)
    model.requires_grad_(False)
    if weights != "bfloat16":
        quantize_(model, weights, device)
    model.enable_gradient_checkpointing()
    model.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=LAYERS))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model.train(), settings


def _inputs(
    name: str, settings: dict[str, Any], device: torch.device, resolution: int
) -> dict[str, Any]:
    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=device, dtype=torch.bfloat16)

    build: Callable[..., dict[str, Any]] = _sdxl if name == "sdxl" else _flux
    found = build(settings, random, resolution)
    return found | {"timestep": torch.full((1,), 0.5, device=device)}


def _sdxl(
    settings: dict[str, Any], random: Callable[..., torch.Tensor], resolution: int
) -> dict[str, Any]:
    side = resolution // 8
    times = 6 * settings["addition_time_embed_dim"]
    pooled = settings["projection_class_embeddings_input_dim"] - times
    return {
        "sample": random(1, settings["in_channels"], side, side),
        "encoder_hidden_states": random(1, 77, settings["cross_attention_dim"]),
        "added_cond_kwargs": {
            "text_embeds": random(1, pooled),
            "time_ids": resolution * random(1, 6).abs(),
        },
    }


def _flux(
    settings: dict[str, Any], random: Callable[..., torch.Tensor], resolution: int
) -> dict[str, Any]:
    patches, words = (resolution // 16) ** 2, 512
    found = {
        "hidden_states": random(1, patches, settings["in_channels"]),
        "encoder_hidden_states": random(1, words, settings["joint_attention_dim"]),
        "pooled_projections": random(1, settings["pooled_projection_dim"]),
        "img_ids": torch.zeros_like(random(patches, 3)),
        "txt_ids": torch.zeros_like(random(words, 3)),
    }
    if settings.get("guidance_embeds"):
        found["guidance"] = torch.ones_like(random(1))
    return found


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()

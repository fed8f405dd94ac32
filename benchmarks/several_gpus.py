"""Time of the gradient reduction on several GPUs, computed from bytes and operations.

    python benchmarks/several_gpus.py

Nothing is measured. The bytes are those of the LoRA gradients (float32), which are all
that the processes exchange in a step. A ring reduction sends 2 (N - 1) / N times as
many from each GPU. The operations of the base model are counted by torch on the meta
device, and divided by the published peak of the GPU, so that the time of a step is a
lower limit and the share of the reduction an upper limit.
"""

from __future__ import annotations

from typing import Any

import torch
from layer_shapes import SHAPES
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stiefel_lora.memory import usual_settings

GPUS = 8
# Practical rates of PCIe 4.0 and PCIe 5.0 with 16 lanes, in bytes per second.
LINKS = (25e9, 64e9)
# RTX 4090 (24 GB), bfloat16 with float32 accumulation, without sparsity.
PEAK = 165.2e12
# Forward, forward again with gradient checkpointing, and gradients of activations; base
# weights have no gradients.
PASSES = 3


def main() -> None:
    """Print the table in Markdown."""
    rates = " | ".join(f"reduction at {rate / 1e9:.0f} GB/s, ms" for rate in LINKS)
    print(f"| model | rank | gradients, MB | sent per GPU, MB | {rates} | step, ms |")
    print("|---|---|---|---|---|---|---|")
    for model in ("sdxl", "flux"):
        step = PASSES * _forward_operations(model) / PEAK
        for rank in (16, 64):
            size = 4 * sum(
                count * rank * (out + into)
                for (out, into), count in SHAPES[model].items()
            )
            sent = 2 * (GPUS - 1) / GPUS * size
            times = [sent / link for link in LINKS]
            cells = [f"{1e3 * t:.1f} ({t / (t + step):.1%})" for t in times]
            print(
                f"| {model} | {rank} | {size / 1e6:.0f} | {sent / 1e6:.0f} | "
                f"{' | '.join(cells)} | {1e3 * step:.0f} |"
            )


@torch.no_grad()
def _forward_operations(model: str) -> float:
    """Count the operations of a forward pass for an image of 1024 x 1024 pixels."""
    settings: Any = usual_settings(model)
    with torch.device("meta"):
        network, inputs = _unet(settings) if model == "sdxl" else _flux(settings)
        with FlopCounterMode(display=False) as counter:
            network(**inputs)
    return float(counter.get_total_flops())


def _unet(settings: Any) -> tuple[nn.Module, dict[str, Any]]:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    network = UNet2DConditionModel.from_config(settings["unet"])
    added = {"text_embeds": torch.ones(1, 1280), "time_ids": torch.ones(1, 6)}
    return network, {
        "sample": torch.ones(1, 4, 128, 128),
        "timestep": torch.ones(1),
        "encoder_hidden_states": torch.ones(1, 77, 2048),
        "added_cond_kwargs": added,
    }


def _flux(settings: Any) -> tuple[nn.Module, dict[str, Any]]:
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

    network = FluxTransformer2DModel.from_config(settings["transformer"])
    return network, {
        "hidden_states": torch.ones(1, 4096, 64),
        "encoder_hidden_states": torch.ones(1, 512, 4096),
        "pooled_projections": torch.ones(1, 768),
        "timestep": torch.ones(1),
        "img_ids": torch.ones(4096, 3),
        "txt_ids": torch.ones(512, 3),
        "guidance": torch.ones(1),
    }


if __name__ == "__main__":
    main()

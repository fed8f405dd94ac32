"""Time of the exchange between several GPUs, computed from bytes and operations.

    python benchmarks/several_gpus.py

Nothing is measured. The bytes of the first table are those of the LoRA gradients
(float32), which are all that the processes exchange in a step. A ring reduction sends
2 (N - 1) / N times as many from each GPU. In the second table, the base model is
divided (``shard_base_model``): each GPU receives the parts of the others in the forward
and in the backward pass of each batch. The operations of the base model are counted by
torch on the meta device, and divided by the published peak of the GPU, so that the time
of a step is a lower limit and the share of the reduction an upper limit.
"""

from __future__ import annotations

from typing import Any

import torch
from layer_shapes import SHAPES
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stiefel_lora.config import parse_config
from stiefel_lora.memory import estimate_memory, usual_settings

GPUS = 8
# Practical rates of PCIe 4.0 and PCIe 5.0 with 16 lanes, in bytes per second.
LINKS = (25e9, 64e9)
# RTX 4090 (24 GB), bfloat16 with float32 accumulation, without sparsity.
PEAK = 165.2e12
# Forward, forward again with gradient checkpointing, and gradients of activations; base
# weights have no gradients.
PASSES = 3


def main() -> None:
    """Print the tables in Markdown."""
    steps = {m: PASSES * _forward_operations(m) / PEAK for m in ("sdxl", "flux")}
    _print_reductions(steps)
    print()
    _print_gathering(steps)


def _print_reductions(steps: dict[str, float]) -> None:
    rates = " | ".join(f"reduction at {rate / 1e9:.0f} GB/s, ms" for rate in LINKS)
    print(f"| model | rank | gradients, MB | sent per GPU, MB | {rates} | step, ms |")
    print("|---|---|---|---|---|---|---|")
    for model, step in steps.items():
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


def _print_gathering(steps: dict[str, float]) -> None:
    rates = " | ".join(f"at {rate / 1e9:.0f} GB/s, ms" for rate in LINKS)
    print(
        "| model | base model, GB | held per GPU, GB | gathered blocks, GB | "
        f"received per GPU and batch, GB | {rates} | step, ms |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for model, step in steps.items():
        whole, _ = _base_bytes(model, 1)
        held, gathered = _base_bytes(model, GPUS)
        received = 2 * (GPUS - 1) / GPUS * whole
        sizes = " | ".join(f"{n / 1e9:.1f}" for n in (whole, held, gathered, received))
        times = " | ".join(f"{1e3 * received / link:.0f}" for link in LINKS)
        print(f"| {model} | {sizes} | {times} | {1e3 * step:.0f} |")


def _base_bytes(model: str, processes: int) -> tuple[int, int]:
    """Return the bytes of the base model that a GPU holds, and those it gathers."""
    settings = {"model_type": model, "batch_size": GPUS, "shard_base_model": True}
    found = estimate_memory(parse_config(settings), usual_settings(model), processes)
    held, *others = [p.bytes for p in found.parts if p.name.startswith("base model")]
    return held, sum(others)


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

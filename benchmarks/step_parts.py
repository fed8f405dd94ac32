"""Processor time of a training step, by part.

    python benchmarks/step_parts.py
    python benchmarks/step_parts.py --preset demo_stiefel_lora demo_flux_stiefel_lora

Trains a preset of the demo on one thread in this process and sums the time in the parts
of each step: the forward pass, of it the LoRA layers of peft beyond the layer that they
wrap, the backward pass, gradient clipping, the optimizer, measurements and logging, and
the rest, such as batches, noise and the loss. Samples and validation are off, the
measurement of the rank is at its default interval.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from peft.tuners.lora import Conv2d, Linear

from stiefel_lora.config import load_config
from stiefel_lora.config.presets import find_preset
from stiefel_lora.families.flux import Flux
from stiefel_lora.families.unet import UNetFamily
from stiefel_lora.training import train
from stiefel_lora.training.loop import Loop

__all__ = ["main"]

WARM_UP = 4


class Clock:
    """Processor seconds by part. A part that runs inside another is also in it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.steps = 0

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that adds its time to a part."""

        @functools.wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds[part] += time.process_time() - began

        return timed

    def count(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that counts steps and forgets those of the warm-up."""

        @functools.wraps(call)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.steps += 1
            if self.steps == WARM_UP + 1:
                self.seconds.clear()
            return call(*args, **kwargs)

        return counted

    def timed_lora(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return peft's forward that adds its own time, without the wrapped layer."""
        whole = self.timed("LoRA and wrapped layers", call)

        @functools.wraps(call)
        def timed(layer: Any, *args: Any, **kwargs: Any) -> Any:
            base = layer.base_layer
            if "forward" not in vars(base):
                base.forward = self.timed("wrapped layers", base.forward)
            return whole(layer, *args, **kwargs)

        return timed


def main() -> None:
    """Measure one preset and print the parts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", nargs="+", default=["demo_adamw"])
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for preset in arguments.preset:
        print(f"\n{preset}, {arguments.steps} steps, torch {torch.__version__}\n")
        print(table(measure(preset, arguments.steps)))


def measure(preset: str, steps: int) -> Clock:
    """Train a preset and return the clock."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        values = {
            "output_dir": folder,
            "steps": steps,
            "sample_every": 0,
            "validate_every": 0,
        }
        changes = [f"{key}={value}" for key, value in values.items()]
        config = load_config(find_preset(preset), changes)
        parts: list[tuple[Any, str, str]] = [
            (Loop, "_loss_of_next_batch", "loss of a batch"),
            (Loop, "_log_step", "logging"),
            (Loop, "_do_what_is_due", "rank and what is due"),
            (Loop, "_show", "progress"),
            (UNetFamily, "predict", "forward pass"),
            (Flux, "predict", "forward pass"),
            (Accelerator, "backward", "backward pass"),
            (Accelerator, "clip_grad_norm_", "gradient clipping"),
            (AcceleratedOptimizer, "step", "optimizer"),
        ]
        with contextlib.ExitStack() as patches:
            for owner, name, part in parts:
                call = clock.timed(part, getattr(owner, name))
                patches.enter_context(mock.patch.object(owner, name, call))
            for kind in (Linear, Conv2d):
                call = clock.timed_lora(kind.forward)
                patches.enter_context(mock.patch.object(kind, "forward", call))
            step = clock.count(clock.timed("whole step", Loop._take_step))
            patches.enter_context(mock.patch.object(Loop, "_take_step", step))
            train(config)
    return clock


def table(clock: Clock) -> str:
    """Return the parts as rows of Markdown."""
    found, steps = clock.seconds, clock.steps - WARM_UP
    lora = found.pop("LoRA and wrapped layers") - found.pop("wrapped layers")
    after = ("logging", "rank and what is due", "progress")
    # These run outside of the step.
    total = found.pop("whole step") + sum(found[part] for part in after)
    batch = found.pop("loss of a batch") - found["forward pass"]
    found["batch, noise and loss"] = batch
    named = sum(found.values())
    found["the rest"] = total - named
    rows = [
        f"| {part} | {1e3 * spent / steps:.2f} | {spent / total:.1%} |"
        for part, spent in sorted(found.items(), key=lambda item: -item[1])
    ]
    rows.append(f"| in all | {1e3 * total / steps:.2f} | |")
    share = f"| of the forward pass: LoRA layers | {1e3 * lora / steps:.2f} |"
    rows.append(f"{share} {lora / total:.1%} |")
    return "\n".join(["| part | ms per step | share |", "|---|---|---|", *rows])


if __name__ == "__main__":
    main()

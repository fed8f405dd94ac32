"""Cost of one rank event for a real SDXL's 700 attention and feed-forward pairs.

An event measures the spectrum of every pair and writes all curves, the histogram, the
heat map and the JSONL line. Beside it: one AdamW step (torch, foreach) on the same
factors. The share of training time is event / (interval x step time); the step time is
an argument, because it is the machine's and not ours::

    python benchmarks/rank_event_cost.py --step-seconds 1.0 --source "RTX 3090, batch 1"
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from layer_shapes import SHAPES, make_pairs

from stiefel_lora.adapters import EffectiveUpdate
from stiefel_lora.metrics.ranks import measure_ranks
from stiefel_lora.runs.events import JsonlSink
from stiefel_lora.training.logging.monitor import Monitor
from stiefel_lora.training.logging.sinks import SinkGroup
from stiefel_lora.training.logging.tensorboard_sink import TensorBoardSink

MODEL, GOAL = "sdxl", 0.01


class NoSamples:
    """Stands in for the sampler, which a rank event does not use."""

    def __len__(self) -> int:
        return 0


def main() -> None:
    """Measure and print a table."""
    arguments = parse_arguments()
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    interval = arguments.interval or max(5, arguments.steps // 40)
    print(
        f"torch {torch.__version__}, {platform.machine()}, "
        f"{torch.get_num_threads()} threads, device {device}; "
        f"{sum(SHAPES[MODEL].values())} pairs, {arguments.repeats} repeats"
    )
    print(
        f"interval {interval} steps (max(5, {arguments.steps} // 40)), step "
        f"{arguments.step_seconds} s: {arguments.source}"
    )
    for rank in arguments.ranks:
        report(rank, interval, arguments, device)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1000, help="steps of the run")
    parser.add_argument("--interval", type=int, help="in place of max(5, steps // 40)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--step-seconds", type=float, default=1.0)
    parser.add_argument("--source", default="assumed, not measured")
    return parser.parse_args()


def report(
    rank: int, interval: int, arguments: argparse.Namespace, device: torch.device
) -> None:
    """Measure one rank and print its lines."""
    pairs = make_pairs(MODEL, rank, device)
    factors = [factor for pair in pairs for factor in (pair.up, pair.down)]
    for factor in factors:
        factor.grad = torch.randn_like(factor)
    optimizer = torch.optim.AdamW(factors, lr=1e-4, foreach=True)
    with tempfile.TemporaryDirectory() as folder:
        sinks = SinkGroup(
            [
                JsonlSink(Path(folder) / "events.jsonl"),
                TensorBoardSink(Path(folder) / "tensorboard"),
            ]
        )
        moves = EffectiveUpdate(pairs)
        monitor = Monitor(lambda: moves, pairs, None, NoSamples(), sinks)  # type: ignore[arg-type]
        steps = iter(range(10**6))
        times = {
            "spectra alone": lambda: measure_ranks(pairs),
            "whole event": lambda: monitor.measure_ranks(next(steps)),
            "AdamW step": optimizer.step,
        }
        measured = {
            name: seconds(work, arguments.repeats, device)
            for name, work in times.items()
        }
        sinks.close()
    for name, values in measured.items():
        middle = statistics.median(values)
        spread = f"{min(values):.3f} .. {max(values):.3f}"
        print(f"rank {rank:3d}  {name:14s} {middle:.3f} s  ({spread})")
    event = statistics.median(measured["whole event"])
    step = statistics.median(measured["AdamW step"])
    share = event / (interval * arguments.step_seconds)
    verdict = "within" if share <= GOAL else "MORE THAN"
    print(
        f"rank {rank:3d}  event / AdamW step = {event / step:.1f}; of training time "
        f"{100 * share:.2f} %: {verdict} the goal of {100 * GOAL:g} %"
    )


def seconds(
    work: Callable[[], object], repeats: int, device: torch.device
) -> list[float]:
    """Times of ``repeats`` calls after one to warm up."""
    found = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return found[1:]


if __name__ == "__main__":
    main()

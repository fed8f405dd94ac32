"""Parts of a step of Stiefel LoRA: products of tall matrices, r x r algebra, the rest.

    OMP_NUM_THREADS=1 python benchmarks/step_shares.py --rank 64

One thread, a tenth of the layers of SDXL, processor time. Both kinds of step and their
bare products alternate, and the minimum of all repeats is printed, which a busy machine
changes least.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from layer_shapes import make_pairs

from stiefel_lora import create_optimizer
from stiefel_lora.optim import stiefel, stiefel_product
from stiefel_lora.optim.engine import two_passes
from stiefel_lora.optim.pairs import Pair

# Functions whose time is a part of the step: label, module, name.
PARTS = (
    ("solver", stiefel, "solve_product"),
    ("msign in the solver", stiefel_product, "joint_polar_core"),
    ("momenta", stiefel_product, "heavy_ball"),
    ("polar factors", two_passes, "polar_core"),
)

Times = dict[str, list[float]]


def main() -> None:
    """Measure and print milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    pairs = _pairs(arguments.rank)
    small = torch.randn(arguments.rank, 2 * arguments.rank) / 100
    jobs = {
        "product": _optimizer(pairs, "product").step,
        "factors": _optimizer(_pairs(arguments.rank), "factors").step,
        "product, bare": lambda: _bare_product(pairs, small),
        "factors, bare": lambda: _bare_factors(pairs),
    }
    for job in jobs.values():
        job()
    for name, times in sorted(_measure(jobs, arguments.repeats).items()):
        print(f"{name:<32}{1e3 * min(times):8.1f} ms")


def _pairs(rank: int) -> list[Pair]:
    pairs = make_pairs("sdxl", rank, torch.device("cpu"), every=10)
    for factor in (f for pair in pairs for f in (pair.up, pair.down)):
        factor.grad = 1e-4 * torch.randn_like(factor)
    return pairs


def _optimizer(pairs: list[Pair], step: str) -> Any:
    named = [
        (f"{number}.lora_{letter}.weight", factor)
        for number, pair in enumerate(pairs)
        for letter, factor in (("A", pair.down), ("B", pair.up))
    ]
    return create_optimizer("stiefel_lora", named, lr=0.02, step=step)


def _measure(jobs: dict[str, Callable[[], Any]], repeats: int) -> Times:
    times: Times = defaultdict(list)
    for turn in range(repeats):
        for name in list(jobs)[:: 1 if turn % 2 else -1]:
            spent: dict[str, float] = defaultdict(float)
            patches = [
                mock.patch.object(
                    module, place, _timed(getattr(module, place), label, spent)
                )
                for label, module, place in PARTS
            ]
            for patch in patches:
                patch.start()
            began = time.thread_time()
            jobs[name]()
            times[name].append(time.thread_time() - began)
            for patch in patches:
                patch.stop()
            for label, seconds in spent.items():
                times[f"{name}, {label}"].append(seconds)
    return times


def _timed(
    function: Callable[..., Any], label: str, spent: dict[str, float]
) -> Callable[..., Any]:
    def call(*values: Any, **named: Any) -> Any:
        began = time.thread_time()
        found = function(*values, **named)
        spent[label] += time.thread_time() - began
        return found

    return call


@torch.no_grad()
def _bare_product(pairs: list[Pair], small: torch.Tensor) -> None:
    """Compute the products of tall matrices of step="product", and nothing else."""
    rank = small.shape[0]
    for pair in pairs:
        b, m = pair.up.detach(), pair.up.grad
        assert m is not None
        _ = b.mT @ b, b.mT @ m, m.mT @ m
        both = (b @ small).addmm_(m, small)
        moved = both[:, :rank]
        _ = moved @ (moved.mT @ moved)
        a, n = pair.down.detach(), pair.down.grad
        assert n is not None
        _ = a @ a.mT, a @ n.mT, n @ n.mT
        (small.mT @ a).addmm_(small.mT, n)


@torch.no_grad()
def _bare_factors(pairs: list[Pair]) -> None:
    """Compute the products of tall matrices of step="factors", and nothing else."""
    for pair in pairs:
        b, m = pair.up.detach(), pair.up.grad
        assert m is not None
        along = b.mT @ m
        _ = b @ along, b.mT @ m
        tangent = b @ along
        moved = b @ (tangent.mT @ tangent)
        _ = m @ along, moved @ (moved.mT @ moved)
        n = pair.down.grad
        assert n is not None
        _ = (n @ n.mT) @ n


if __name__ == "__main__":
    main()

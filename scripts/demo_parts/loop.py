"""Train one network: rate, clipping, checkpoints, and several processes.

A step depends on the seed and its number alone, so a resumed run equals an
uninterrupted one.

Under torchrun each process takes its share of every batch and steps by itself; weights
and moments are averaged now and then (local SGD, arXiv:1805.09767), so that a core that
stalls holds up the other once in ten steps and not in every layer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from demo_parts.muon import Muon
from demo_parts.recipe import Recipe
from demo_parts.workers import Workers

WARM_UP = 100
REPORT_EVERY = 20
CLIP_NORM = 1.0
AVERAGE_EVERY = 10
LossOf = Callable[[int, slice], Tensor]


class Run:
    """Training state: the network, its optimizers and the losses so far.

    Args:
        network: trained in place.
        optimizers: of all its weights.
        decay: of the mean of its weights over the steps; None for no mean.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        decay: float | None = None,
    ) -> None:
        """Start at step 0."""
        self.network = network
        self.optimizers = optimizers
        self.losses: list[float] = []
        self.mean: AveragedModel | None = None
        if decay is not None:
            follow = get_ema_multi_avg_fn(decay)
            self.mean = AveragedModel(network, multi_avg_fn=follow)

    @property
    def result(self) -> dict[str, Tensor]:
        """The mean weights where there are any, else the network's."""
        network = self.network if self.mean is None else self.mean.module
        return network.state_dict()

    def step(self, loss: Tensor, rate: float) -> None:
        """Follow the gradient of `loss`."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        self.network.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP_NORM)
        for optimizer in self.optimizers:
            optimizer.step()
        self.losses.append(loss.item())
        if self.mean is not None:
            self.mean.update_parameters(self.network)

    def shared(self) -> list[Tensor]:
        """Weights and moments, which processes average."""
        moments = [
            value
            for optimizer in self.optimizers
            for state in optimizer.state.values()
            for name, value in state.items()
            if name != "step"
        ]
        return [*self.network.parameters(), *moments]

    def save(self, path: Path) -> None:
        """Replace the checkpoint."""
        state: dict[str, Any] = {
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "losses": self.losses,
        }
        if self.mean is not None:
            state["mean"] = self.mean.state_dict()
        state["result"] = self.result
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Resume from a checkpoint if there is one."""
        if not path.is_file():
            return
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        if self.mean is not None:
            self.mean.load_state_dict(state["mean"])
        self.losses = state["losses"]
        print(f"resumed at step {len(self.losses)} from {path}", flush=True)


def train(
    run: Run,
    loss_of: LossOf,
    recipe: Recipe,
    checkpoint: Path,
    publish: Callable[[int], None],
) -> float | None:
    """Run or resume a training.

    Args:
        run: what is trained.
        loss_of: the loss of a step on a share of its batch.
        recipe: settings.
        checkpoint: file that is written every `recipe.every` steps; its stem names the
            run in reports.
        publish: called with the number of steps after each checkpoint.

    Returns:
        Mean loss of the last 100 steps; None in a process beside the first.

    Raises:
        ValueError: if the loss is not finite.
    """
    run.load(checkpoint)
    first = len(run.losses)
    workers = Workers.join()
    started = time.monotonic()
    for step in range(first, recipe.steps):
        run.step(loss_of(step, workers.share), recipe.rate(step, WARM_UP))
        done = step + 1
        if done % AVERAGE_EVERY == 0 or done == recipe.steps:
            workers.average(run.shared())
        if not workers.is_first:
            continue
        if not np.isfinite(run.losses[-1]):
            raise ValueError(
                f"The loss at step {done} is {run.losses[-1]}: lower --lr."
            )
        recent = float(np.mean(run.losses[-100:]))
        if done % REPORT_EVERY == 0:
            seconds = (time.monotonic() - started) / (done - first)
            print(
                f"{checkpoint.stem} {done}/{recipe.steps} loss {recent:.4f} "
                f"{seconds:.3f} s/step",
                time.strftime("%H:%M:%S"),
                flush=True,
            )
        if done % recipe.every == 0 or done == recipe.steps:
            run.save(checkpoint)
            publish(done)
    return float(np.mean(run.losses[-100:])) if workers.is_first else None


def make_optimizers(
    matrices: Sequence[Tensor],
    others: Sequence[Tensor],
    lr: float,
    dtype: torch.dtype = torch.bfloat16,
) -> list[torch.optim.Optimizer]:
    """Muon, with products in `dtype`, for matrices, and AdamW for the others."""
    return [
        Muon(matrices, lr, weight_decay=0.01, dtype=dtype),
        torch.optim.AdamW(others, lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True),
    ]

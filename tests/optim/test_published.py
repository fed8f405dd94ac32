"""Trajectories beside published implementations that install from PyPI."""

from __future__ import annotations

import pytest
import torch
from adv_optm.stiefel_optm.Stiefel_LoRA import Stiefel_LoRA as PullRequestOptimizer

from stiefel_lora import StiefelLoRA
from stiefel_lora.geometry import random_orthonormal
from stiefel_lora.optim import PULL_REQUEST_OPTIONS

STEPS = 40


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(
    ("out", "width", "rank"), [(64, 48, 8), (16, 40, 4), (33, 9, 3)]
)
def test_pull_request_options_follow_adv_optm(weight_decay, out, width, rank):
    """Float32 QR on both sides: entries of size 1 agree to a few roundings."""
    generator = torch.Generator().manual_seed(1)
    start = random_orthonormal(out, rank, seed=3)
    down_start = 0.1 * torch.randn(rank, width, generator=generator)
    goal = torch.randn(out, width, generator=generator)

    def run(make):
        up, down = (torch.nn.Parameter(t.clone()) for t in (start, down_start))
        up._is_lora_B = down._is_lora_A = True
        optimizer = make([down, up])
        for _ in range(STEPS):
            up.grad = down.grad = None
            (up @ down - goal).square().mean().backward()
            optimizer.step()
        return up.detach(), down.detach()

    theirs = run(
        lambda params: PullRequestOptimizer(
            params, lr=1e-2, momentum=0.95, weight_decay=weight_decay
        )
    )
    ours = run(
        lambda params: StiefelLoRA(
            params, lr=1e-2, weight_decay=weight_decay, **PULL_REQUEST_OPTIONS
        )
    )
    assert (theirs[0] - ours[0]).abs().max() <= 5e-6
    assert (theirs[1] - ours[1]).abs().max() <= 5e-6
    assert (start - ours[0]).abs().max() > 0.1

"""Trajectories beside published implementations that install from PyPI."""

from __future__ import annotations

import pytest
import torch
from adv_optm.stiefel_optm.Stiefel_LoRA import Stiefel_LoRA as PullRequestOptimizer
from lora_net import LoraNet, products, task, train
from peft.optimizers import create_riemannian_optimizer
from pytorch_optimizer.optimizer.lora_rite import LoRARite

from stiefel_lora import LoRARITE, ScaledAdamW, StiefelLoRA
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


@pytest.mark.parametrize("escape", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_lora_rite_follows_pytorch_optimizer(escape, weight_decay):
    """Float64, from B = 0: equal to roundings, which 40 steps with inverses magnify.

    Theirs adds eps squared under the root as well; ``eps_root`` takes that out.
    """
    batch = task(torch.float64)
    ours, theirs = LoraNet(dtype=torch.float64), LoraNet(dtype=torch.float64)
    ours.shift.requires_grad_(False)
    theirs.shift.requires_grad_(False)
    factors = [p for p in theirs.parameters() if p.requires_grad]
    shared = {"lr": 3e-3, "weight_decay": weight_decay}
    published = LoRARite(factors, eps_root=0.0, apply_escape=escape, **shared)
    start = products(ours)
    assert all(not product.any() for product in start)
    train(theirs, published, STEPS, batch)
    train(ours, LoRARITE(ours, escape=escape, **shared), STEPS, batch)
    for mine, other, old in zip(products(ours), products(theirs), start, strict=True):
        assert (mine - other).norm() <= 1e-9 * (mine - old).norm()


def test_scaled_adamw_follows_peft_where_both_grams_have_one_size():
    """Ours divides a Gram matrix by its mean eigenvalue c, peft does not.

    (K / c + d I) c = K + c d I, and Adam does not see a constant factor: with every c
    at 1 the first step is the same to roundings. Later steps differ by the drift of
    c, in the size of the gradient and in the damping.
    """
    batch, damping = task(torch.float64), 1e-2
    ours, theirs = LoraNet(dtype=torch.float64), LoraNet(dtype=torch.float64)
    for net in (ours, theirs):
        net.shift.requires_grad_(False)
        _give_unit_grams(net)
    start = products(ours)
    published = create_riemannian_optimizer(
        theirs, torch.optim.AdamW, lr=1e-3, reg=damping, weight_decay=0.0
    )
    optimizer = ScaledAdamW(ours, lr=1e-3, damping=damping)
    for steps in (1, STEPS - 1):
        train(theirs, published, steps, batch)
        train(ours, optimizer, steps, batch)
        # eps is added to a root that is c times as large there: 1e-8 of it.
        bound = 1e-6 + (0 if steps == 1 else _drift(ours))
        for mine, other, old in zip(
            products(ours), products(theirs), start, strict=True
        ):
            assert (mine - other).norm() <= bound * (mine - old).norm()


def _drift(net: LoraNet) -> float:
    """Largest |c - 1| of all factors."""
    factors = [p for name, p in net.named_parameters() if "lora" in name]
    sizes = [float(p.detach().square().sum()) / min(p.shape) for p in factors]
    return max(abs(size - 1) for size in sizes)


@torch.no_grad()
def _give_unit_grams(net: LoraNet) -> None:
    """Random factors whose Gram matrices have mean eigenvalue 1."""
    generator = torch.Generator().manual_seed(5)
    for name, factor in net.named_parameters():
        if "lora" in name:
            drawn = torch.randn(factor.shape, generator=generator, dtype=factor.dtype)
            factor.copy_(drawn * (min(factor.shape) ** 0.5 / drawn.norm()))

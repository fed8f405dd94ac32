"""Averages of the factors, by what hosts use: torch's SWA and diffusers' EMA.

The product of averaged factors differs from the average of the products by the
covariance of B and A, which is of second order in how far they move: a method whose
factors move twice as far as AdamW's is allowed four times its difference. Columns that
jump or turn without the product (as singular vectors do) cost 20 times and more.
"""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from catalogue_cases import entry, every_method, make
from diffusers.training_utils import EMAModel
from lora_net import LoraNet, backward, products, task, train
from torch.optim.swa_utils import AveragedModel

from stiefel_lora import orthonormalize_
from stiefel_lora.geometry import orthogonality_error, random_orthonormal
from stiefel_lora.optim import init_riemannion_, riemannion
from stiefel_lora.optim.pairs import find_pairs
from stiefel_lora.optim.rule import keeps_orthonormal
from stiefel_lora.training.ema import MovingAverage, decay_at

BEFORE, STEPS, SEEDS, DECAY = 20, 40, 2, 0.9
FURTHER = 4.0
# At the rate of the other tests their factors move more than twice as far as AdamW's
# (PoLoRA's just so: by 2.00 or 2.01, depending on the processor).
SLOWER = {"lora_tsd": 0.4, "polora": 0.8}
F64 = torch.float64


class Torch:
    """The mean of all steps."""

    def __init__(self, model, pairs):
        self.average = AveragedModel(model)
        self.steps = 0

    def update(self, model):
        """Take one more step into the average; return its share."""
        self.average.update_parameters(model)
        self.steps += 1
        return 1 / self.steps

    def result(self, model):
        return self.average.module


class Diffusers:
    """An exponential mean."""

    def __init__(self, model, pairs):
        self.average = EMAModel(self.trained(model), decay=DECAY)

    @staticmethod
    def trained(model):
        return [p for p in model.parameters() if p.requires_grad]

    def update(self, model):
        self.average.step(self.trained(model))
        return 1 - self.average.cur_decay_value

    def result(self, model):
        found = copy.deepcopy(model)
        self.average.copy_to(self.trained(found))
        return found


class Trainer:
    """The trainer's own, which turns orthonormal factors towards the average."""

    def __init__(self, model, pairs):
        self.average = MovingAverage(
            model, pairs, decay=DECAY, every=1, device=torch.device("cpu")
        )
        self.steps = 0

    def update(self, model):
        self.steps += 1
        self.average.update(self.steps)
        return 1 - decay_at(self.steps, DECAY)

    def result(self, model):
        with self.average.applied():
            return copy.deepcopy(model)


KINDS = [Torch, Diffusers, Trainer]


@functools.cache
def distances(name):
    """Of averaged products from the averages of the products, relative to them.

    One number a kind, summed over seeds.
    """
    found = dict.fromkeys(KINDS, 0.0)
    for seed in range(SEEDS):
        for kind, distance in distances_of_run(name, seed).items():
            found[kind] += distance
    return found


def distances_of_run(name, seed):
    model = LoraNet(seed=seed)
    optimizer = make(name, model, faster=SLOWER.get(name, 1))
    if entry(name).start == "riemannion":
        init_riemannion_(model)
    batch = task()
    train(model, optimizer, BEFORE, batch)
    orthonormal = keeps_orthonormal(optimizer)
    pairs = find_pairs(model).pairs if orthonormal else []
    averages = [kind(model, pairs) for kind in KINDS]
    means = [products(model) for _ in KINDS]
    for _ in range(STEPS):
        backward(model, batch)
        optimizer.step()
        now = products(model)
        for index, average in enumerate(averages):
            share = average.update(model)
            parts = zip(means[index], now, strict=True)
            means[index] = [mean.lerp(product, share) for mean, product in parts]
    found = {}
    for average, mean in zip(averages, means, strict=True):
        result = average.result(model)
        if orthonormal:
            orthonormalize_(result)
            for pair in find_pairs(result).pairs:
                assert orthogonality_error(pair.up.detach()) <= 1e-5
        apart = [p - m for p, m in zip(products(result), mean, strict=True)]
        found[type(average)] = float(_norm(apart) / _norm(mean))
    return found


def _norm(matrices):
    return torch.cat([matrix.flatten() for matrix in matrices]).norm()


@every_method
def test_the_averaged_product_is_near_the_average_of_the_products(name):
    adamw = distances("adamw")
    for kind, distance in distances(name).items():
        assert distance <= FURTHER * adamw[kind], (kind.__name__, distance, adamw)


# Riemannion's frame ---------------------------------------------------------------


def overlaps(rank, reach, seed):
    """An orthogonal matrix that turns neighbors up to ``reach`` places apart."""
    found = torch.eye(rank, dtype=F64)
    for start in range(0, rank, reach):
        size = min(reach, rank - start)
        part = random_orthonormal(size, size, seed=seed + start, dtype=F64)
        found[start : start + size, start : start + size] = part
    return found


def gradient_in_half_precision(turn, sigma, seed):
    """G R from bfloat16 A and G_B, and what it should be, both as G R R^T."""
    rank = len(sigma)
    frame = random_orthonormal(48, rank, seed=seed, dtype=F64)
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(40, 48, generator=generator, dtype=F64)
    down = ((turn.mT * sigma) @ frame.mT).float()
    grad_up = gradient.float() @ down.bfloat16().float().mT
    over = riemannion._frame(down.double() @ down.double().mT).float()
    found = grad_up.bfloat16().float() @ over.mT @ (over @ down)
    return found.double(), gradient @ frame @ frame.mT


@pytest.mark.parametrize("seed", range(5))
def test_turns_keep_the_gradient_in_half_precision_at_condition_1e7(seed):
    """Groups of four singular values within a factor of 2.4; the least is 1e-7."""
    within = torch.logspace(0, -0.38, 4, dtype=F64)
    between = torch.logspace(0, -6.62, 6, dtype=F64)
    sigma = torch.outer(between, within).flatten()
    overlap = overlaps(24, 4, seed)
    turn = riemannion._follow(overlap[None], sigma[None])[0]
    torch.testing.assert_close(turn, overlap)
    found, wanted = gradient_in_half_precision(turn, sigma, seed)
    assert (found - wanted).norm() <= 3e-3 * wanted.norm()


def test_a_turn_that_would_lose_the_gradient_is_not_taken():
    sigma = torch.logspace(0, -7, 24, dtype=F64)
    overlap = overlaps(24, 24, 0)
    found, wanted = gradient_in_half_precision(overlap, sigma, 0)
    assert not (found - wanted).norm() <= 0.1 * wanted.norm()
    turn = riemannion._follow(overlap[None], sigma[None])[0]
    assert torch.equal(turn, torch.eye(24, dtype=F64))
    found, wanted = gradient_in_half_precision(turn, sigma, 0)
    assert (found - wanted).norm() <= 3e-3 * wanted.norm()


@pytest.mark.parametrize("size", [0.0, 1e-6, 1e-3, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_turn_is_orthogonal_where_a_column_left_the_frame(size, dtype):
    """Without that the product would change."""
    overlap = overlaps(6, 6, 3)
    overlap[:, 2] *= size
    turn = riemannion._follow(overlap.to(dtype)[None], torch.ones(1, 6, dtype=dtype))
    assert orthogonality_error(turn).max() <= 64 * torch.finfo(dtype).eps

"""Gradients of B and A that differ by factors up to 1e32, which no loss has."""

from __future__ import annotations

import itertools

import pytest
import torch
from catalogue_cases import OWN_PRECISION, entry, options, parametrized
from torch import nn

from stiefel_lora import create_optimizer
from stiefel_lora.geometry import joint_polar_core, random_orthonormal

SIZES = [
    (1e10, 1.0),
    (1e12, 1.0),
    (1.0, 1e-12),
    (1e-12, 1e12),
    (1e13, 0.0),
    (0.0, 1e13),
]
RATES = [1e-12, 1e-8, 1e-2]
SCALES = [0.0, 1e-8, 1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@parametrized(OWN_PRECISION)
def test_steps_are_finite(name, dtype):
    for (up_size, down_size), lr in itertools.product(SIZES, RATES):
        generator = torch.Generator().manual_seed(0)
        named = []
        for number, scale in enumerate(SCALES):
            down = scale * torch.randn(4, 16, generator=generator)
            up = random_orthonormal(24, 4, seed=number, dtype=dtype)
            named += [
                (f"{number}.lora_A.weight", nn.Parameter(down.to(dtype))),
                (f"{number}.lora_B.weight", nn.Parameter(up)),
            ]
        optimizer = create_optimizer(entry(name).name, named, lr=lr, **options(name))
        for _ in range(4):
            for key, factor in named:
                size = up_size if "lora_B" in key else down_size
                drawn = torch.randn(factor.shape, generator=generator)
                factor.grad = (size * drawn).to(dtype)
            optimizer.step()
        held = [value for own in optimizer.state.values() for value in own.values()]
        found = [factor for _, factor in named] + held
        assert all(tensor.isfinite().all() for tensor in found), (up_size, lr)


@pytest.mark.parametrize("rank", [1, 4, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_joint_polar_core_of_tiny_matrices(rank, dtype):
    # Powers of two, so that only underflow can change a digit.
    power = 100 if dtype == torch.float32 else 800
    generator = torch.Generator().manual_seed(rank)
    tall = torch.randn(40, rank, generator=generator, dtype=torch.float64)
    gram = (tall.T @ tall / 40).to(dtype)
    expected = joint_polar_core(gram)
    found = joint_polar_core(gram * 2.0**-power) * 2.0 ** (-power // 2)
    # Divided by the trace, which is larger than the norm, and lifted a little less.
    torch.testing.assert_close(
        found, expected, rtol=0, atol=2e-2 * float(expected.max())
    )

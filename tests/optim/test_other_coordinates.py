"""Factors that another program replaces by (B C, C^-1 A) between steps."""

from __future__ import annotations

import pytest
import torch
from catalogue_cases import make, parametrized
from torch import nn

from stiefel_lora.geometry import random_orthonormal

F64 = torch.float64


def product(name, change=None):
    """B A after six steps. The factors are changed after five."""
    generator = torch.Generator().manual_seed(0)
    up = nn.Parameter(random_orthonormal(26, 5, seed=0, dtype=F64))
    down = nn.Parameter(torch.randn(5, 20, generator=generator, dtype=F64))
    optimizer = make(name, [("q.lora_A.weight", down), ("q.lora_B.weight", up)])
    for step in range(6):
        if step == 5 and change is not None:
            inverse = torch.linalg.inv(change)
            with torch.no_grad():
                up.copy_(up @ change)
                down.copy_(inverse @ down)
            # As the documentation describes.
            state = optimizer.state
            state[up]["momentum_up"] = state[up]["momentum_up"] @ inverse.T
            state[down]["momentum_down"] = change.T @ state[down]["momentum_down"]
        gradient = torch.randn(26, 20, generator=generator, dtype=F64)
        up.grad = gradient @ down.detach().T
        down.grad = up.detach().T @ gradient
        optimizer.step()
    return up.detach() @ down.detach()


CHANGES = {
    "scale": 2 * torch.eye(5, dtype=F64),
    "rotation": random_orthonormal(5, 5, seed=9, dtype=F64),
    "any": torch.eye(5, dtype=F64) + 0.4 * random_orthonormal(5, 5, seed=3, dtype=F64),
}


@pytest.mark.parametrize("change", list(CHANGES))
@parametrized(
    ["stiefel_lora", "stiefel_lora_factors", "riemannion", "lora_muon", "lora_tsd"]
)
def test_a_momentum_that_is_changed_along_gives_the_same_step(name, change):
    expected = product(name)
    found = product(name, CHANGES[change])
    assert torch.linalg.norm(found - expected) <= 1e-9 * torch.linalg.norm(expected)

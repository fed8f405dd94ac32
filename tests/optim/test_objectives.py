"""Every method finds the lowest value of small objectives that have a known one."""

from __future__ import annotations

import pytest
import torch
from catalogue_cases import RATES, every_method, make
from lora_net import LoraLinear, products
from objectives import OBJECTIVES, OUT, RANK, WIDTH, Objective

from stiefel_lora import create_optimizer

STEPS = 100
# Share of the first excess loss that may be left. Noise in the labels leaves some to
# any method: the last steps are short but not zero.
LIMITS = {"factorize": 0.01, "regress": 0.01, "classify": 0.01, "small_batches": 0.1}

every_objective = pytest.mark.parametrize("objective", OBJECTIVES)


def excess_left(
    objective: Objective, layer: LoraLinear, optimizer: torch.optim.Optimizer
) -> float:
    """Train with the rate falling to zero; the share of the excess that is left."""
    start = objective.excess(torch.zeros(OUT, WIDTH, dtype=torch.float64))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    for step in range(STEPS):
        objective.backward(layer, step)
        optimizer.step()
        schedule.step()
    return objective.excess(products(layer)[0]) / start


def make_layer() -> LoraLinear:
    torch.manual_seed(0)
    return LoraLinear(WIDTH, OUT, RANK).double()


@every_objective
@every_method
def test_it_reaches_the_floor(name, objective):
    layer = make_layer()
    optimizer = make(name, layer, faster=3)
    left = excess_left(OBJECTIVES[objective](), layer, optimizer)
    assert left <= LIMITS[objective]


@every_objective
def test_training_one_factor_is_not_enough(objective):
    """So the limits do notice a method that leaves A where it started."""
    layer = make_layer()
    up = layer.lora_B["default"].weight
    optimizer = create_optimizer("adamw", [up], lr=3 * RATES["adamw"])
    assert excess_left(OBJECTIVES[objective](), layer, optimizer) > 0.3

"""The loop that trains the demo's networks."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from demo_parts.loop import Run, make_optimizers, train
from demo_parts.recipe import Recipe

RECIPE = Recipe(steps=8, batch=4, lr=0.02, seed=0, every=4)


def start() -> Run:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))
    matrices = [p for p in network.parameters() if p.dim() == 2]
    others = [p for p in network.parameters() if p.dim() < 2]
    optimizers = make_optimizers(matrices, others, RECIPE.lr, torch.float32)
    return Run(network, optimizers, decay=0.5)


def loss_of(run: Run, step: int, share: slice) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    rows = torch.randn(RECIPE.batch, 6, generator=generator)[share]
    return (run.network(rows)[:, 0] - rows.sum(1)).square().mean()


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = start()
    train(whole, partial(loss_of, whole), RECIPE, tmp_path / "whole.pt", print)

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    first, second = start(), start()
    with pytest.raises(KeyboardInterrupt):
        train(first, partial(loss_of, first), RECIPE, tmp_path / "parts.pt", stop)
    assert len(first.losses) == RECIPE.every
    train(second, partial(loss_of, second), RECIPE, tmp_path / "parts.pt", print)
    assert second.losses == whole.losses
    for name, weight in whole.result.items():
        assert torch.equal(second.result[name], weight), name


def test_result_is_the_mean_of_the_weights_over_steps() -> None:
    run = start()
    run.step(loss_of(run, 0, slice(None)), 0.02)
    first = {k: v.clone() for k, v in run.network.state_dict().items()}
    run.step(loss_of(run, 1, slice(None)), 0.02)
    for name, weight in run.network.state_dict().items():
        wanted = first[name].lerp(weight, 0.5)
        torch.testing.assert_close(run.result[name], wanted)
        assert not torch.equal(wanted, weight)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    run = start()

    def broken(step: int, share: slice) -> Tensor:
        return loss_of(run, step, share) * float("nan")

    with pytest.raises(ValueError, match="The loss at step 1 is nan: lower --lr"):
        train(run, broken, RECIPE, tmp_path / "run.pt", print)

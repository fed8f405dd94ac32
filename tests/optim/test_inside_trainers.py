"""Optimizers inside trainers: scaling, accumulation, accelerate, DDP."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from catalogue_cases import NAMES, every_method, make
from lora_net import LoraNet, backward, products, snapshot, task
from torch import nn
from two_processes import STEPS, train_in_two


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(snapshot(one), snapshot(other), strict=True)
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


def scaled_backward(
    model: nn.Module, scaler: torch.amp.GradScaler, batch: tuple[torch.Tensor, ...]
) -> None:
    for parameter in model.parameters():
        parameter.grad = None
    loss = (model(batch[0]) - batch[1]).square().mean()
    scaler.scale(loss).backward()


@every_method
def test_a_scaled_loss_changes_nothing(name):
    """The scale is a power of two, so that scaling rounds nothing."""
    plain, scaled, batch = LoraNet(), LoraNet(), task()
    plainly, optimizer = make(name, plain), make(name, scaled)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for _ in range(STEPS):
        backward(plain, batch)
        plainly.step()
        scaled_backward(scaled, scaler, batch)
        scaler.step(optimizer)
        scaler.update()
    assert equal(plain, scaled)


@every_method
def test_a_step_that_overflows_is_left_out(name):
    model, batch = LoraNet(), task()
    optimizer = make(name, model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for overflows in (False, False, True):
        scaled_backward(model, scaler, batch)
        before = snapshot(model)
        if overflows:
            model.first.lora_B["default"].weight.grad[0, 0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
        pairs = zip(before, snapshot(model), strict=True)
        assert all(torch.equal(old, new) for old, new in pairs) == overflows
    assert scaler.get_scale() == 2.0**9


@every_method
def test_accumulated_parts_of_a_batch_are_the_batch(name):
    """Equal to the rounding of gradients, which the first steps of Adam magnify."""
    whole, parts = LoraNet(dtype=torch.float64), LoraNet(dtype=torch.float64)
    batch = task(torch.float64)
    wholly, partly = make(name, whole), make(name, parts)
    for _ in range(STEPS):
        backward(whole, batch)
        wholly.step()
        partly.zero_grad()
        for inputs, targets in zip(*(b.chunk(4) for b in batch), strict=True):
            ((parts(inputs) - targets).square().mean() / 4).backward()
        partly.step()
    # 8-bit moments round to codes, where a last bit can decide.
    tolerance = 1e-2 if name == "adamw_8bit" else 1e-7
    for mine, other in zip(snapshot(whole), snapshot(parts), strict=True):
        assert (mine - other).norm() <= tolerance * mine.norm()


@every_method
def test_accelerate_saves_and_resumes_to_the_bit(name: str, tmp_path: Path) -> None:
    batch = task()

    def prepared(seed: int) -> tuple[Accelerator, nn.Module, torch.optim.Optimizer]:
        accelerator = Accelerator(cpu=True)
        model = LoraNet(seed=seed)
        return (accelerator, *accelerator.prepare(model, make(name, model)))

    def go(
        accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = (model(batch[0]) - batch[1]).square().mean()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()

    whole = prepared(0)
    go(*whole)
    whole[0].save_state(str(tmp_path / "half"))
    go(*whole)
    resumed = prepared(7)
    resumed[0].load_state(str(tmp_path / "half"))
    go(*resumed)
    assert equal(whole[1], resumed[1])


@pytest.mark.slow
def test_two_processes_keep_equal_weights_and_train_as_one_would(tmp_path: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # This process is the other one: it has imported everything already.
    first_one = torch.multiprocessing.spawn(
        train_in_two, (port, str(tmp_path)), nprocs=1, join=False
    )
    train_in_two(1, port, str(tmp_path))
    first_one.join()
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name in NAMES:
        for one, other in zip(first[name], second[name], strict=True):
            assert torch.equal(one, other), name
        alone, batch = LoraNet(), task()
        optimizer = make(name, alone)
        for _ in range(STEPS):
            backward(alone, batch)
            optimizer.step()
        # Products: Riemannion's start has equal singular values, whose basis is free.
        # Float32 means of two halves differ in the last bits; first steps magnify them.
        both = LoraNet()
        for parameter, value in zip(trained(both), first[name], strict=True):
            parameter.data.copy_(value)
        for one, mine in zip(products(both), products(alone), strict=True):
            assert (one - mine).norm() <= 1e-2 * mine.norm(), name


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]

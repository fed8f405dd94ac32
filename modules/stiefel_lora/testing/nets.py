"""Small LoRA models and a training task for tests of optimizers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class LoraLinear(nn.Module):
    """Frozen linear layer with a LoRA adapter that has the attributes of PEFT."""

    def __init__(self, width: int, out: int, rank: int) -> None:
        super().__init__()
        self.base = nn.Linear(width, out).requires_grad_(False)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(width, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, out, bias=False)})
        self.up.data.zero_()

    @property
    def up(self) -> Any:
        """Factor B, ``(out, rank)``."""
        return self.lora_B["default"].weight

    @property
    def down(self) -> Any:
        """Factor A, ``(rank, width)``."""
        return self.lora_A["default"].weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute W x + B A x."""
        return self.base(x) + self.lora_B["default"](self.lora_A["default"](x))


class LoraNet(nn.Module):
    """Network with four adapted layers of unequal ranks and a trained bias."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = LoraLinear(12, 16, 4)
        self.second = LoraLinear(16, 16, 4)
        self.third = LoraLinear(16, 16, 4)
        self.last = LoraLinear(16, 8, 2)
        self.shift = nn.Parameter(torch.zeros(8))
        self.to(dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute outputs ``(batch, 8)`` from inputs ``(batch, 12)``."""
        for layer in (self.first, self.second, self.third):
            x = torch.tanh(layer(x))
        return self.last(x) + self.shift


def task(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Create inputs and targets of a network with slightly different weights."""
    teacher = LoraNet(seed=0, dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    for parameter in teacher.parameters():
        noise = torch.randn(parameter.shape, generator=generator).to(dtype)
        parameter.data.add_(0.1 * noise)
    x = torch.randn(128, 12, generator=generator).to(dtype)
    with torch.no_grad():
        return x, teacher(x)


def backward(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Compute the gradients of the mean squared error and return the loss."""
    for parameter in model.parameters():
        parameter.grad = None
    loss = (model(batch[0]) - batch[1]).square().mean()
    loss.backward()
    return float(loss.detach())


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: int,
    batch: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> float:
    """Train with a linearly decaying learning rate and return the last loss."""
    batch = batch or task(next(model.parameters()).dtype)
    rates = [group["lr"] for group in optimizer.param_groups]
    loss = float("nan")
    for i in range(steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1 - i / steps)
        loss = backward(model, batch)
        optimizer.step()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    return loss


def snapshot(model: nn.Module) -> list[torch.Tensor]:
    """Copy all trainable parameters."""
    return [p.detach().clone() for p in model.parameters() if p.requires_grad]


def products(model: nn.Module) -> list[torch.Tensor]:
    """Compute B A of every adapted layer in float64."""
    return [
        layer.up.detach().double() @ layer.down.detach().double()
        for layer in model.modules()
        if isinstance(layer, LoraLinear)
    ]

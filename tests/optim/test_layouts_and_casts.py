"""Factors of any strides, and models that are cast or laid out again on the way."""

from __future__ import annotations

import itertools

import pytest
import torch
from catalogue_cases import every_method, make
from lora_net import LoraNet, backward, task
from torch import nn

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class Convolution(nn.Module):
    """The LoRA of a 3 x 3 convolution."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        down, up = (nn.Conv2d(6, 4, 3, bias=False), nn.Conv2d(4, 8, 1, bias=False))
        self.lora_A = nn.ModuleDict({"default": down})
        self.lora_B = nn.ModuleDict({"default": up})
        nn.init.zeros_(up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lora_B["default"](self.lora_A["default"](x))


def trained(name, layout, change=None):
    """B A after four steps; ``change`` is done to the model after two."""
    model = Convolution().to(memory_format=layout)
    optimizer = make(name, model)
    generator = torch.Generator().manual_seed(1)
    for step in range(4):
        if step == 2 and change is not None:
            change(model)
        x = torch.randn(2, 6, 5, 5, generator=generator)
        y = torch.randn(2, 8, 3, 3, generator=generator)
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    down, up = (parameter.detach().flatten(1) for parameter in model.parameters())
    return up @ down


def to_layout(layout):
    return lambda model: model.to(memory_format=layout)


@every_method
def test_channels_last_trains_to_the_same_numbers(name):
    # Kernels of the two layouts sum in different orders, and msign divides the rounding
    # of a direction by its share of the gradient; in Gram matrices by its square.
    tolerance = 1e-3 if name == "stiefel_lora" else 3e-4
    plain = trained(name, torch.contiguous_format)
    for other in (
        trained(name, torch.channels_last),
        trained(name, torch.contiguous_format, to_layout(torch.channels_last)),
        trained(name, torch.channels_last, to_layout(torch.contiguous_format)),
    ):
        assert torch.linalg.norm(plain - other) <= tolerance * torch.linalg.norm(plain)


@pytest.mark.parametrize("strides", ["transposed", "every other"])
@every_method
def test_linear_factors_may_have_any_strides(name, strides):
    def laid_out(tensor):
        if strides == "transposed":
            return tensor.T.contiguous().T
        return tensor.repeat_interleave(2, dim=1)[:, ::2]

    results = []
    for change in (torch.clone, laid_out):
        torch.manual_seed(0)
        down, up = torch.randn(3, 10), torch.linalg.qr(torch.randn(12, 3)).Q
        target = torch.randn(12, 10)
        down, up = (nn.Parameter(change(tensor)) for tensor in (down, up))
        named = [("x.lora_A.weight", down), ("x.lora_B.weight", up)]
        optimizer = make(name, named)
        for _ in range(3):
            optimizer.zero_grad()
            (up @ down - target).square().mean().backward()
            optimizer.step()
        results.append((up @ down).detach())
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@every_method
def test_a_model_that_is_cast_after_some_steps_trains_on(name):
    for before, after in itertools.permutations(DTYPES, 2):
        model = LoraNet(dtype=before)
        optimizer = make(name, model, faster=0.25)
        losses = []
        for step in range(9):
            if step in (3, 6):
                model.to(after if step == 3 else before)
            dtype = next(model.parameters()).dtype
            losses.append(backward(model, task(dtype)))
            optimizer.step()
        assert all(p.isfinite().all() for p in model.parameters())
        assert losses[-1] < losses[0]


@every_method
def test_float16_factors_train_on_small_gradients(name):
    """Squares of these gradients are 0 in float16."""
    model = LoraNet(dtype=torch.float16)
    optimizer = make(name, model, faster=0.25)
    start = backward(model, task(torch.float16))
    for _ in range(25):
        end = backward(model, task(torch.float16))
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(2**-6)
        optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())
    assert end < 0.9 * start


def test_adamw_calls_hooks_and_the_closure_once():
    torch.optim.AdamW([nn.Parameter(torch.zeros(2))])
    model, calls = LoraNet(), []
    optimizer = make("adamw", model)
    optimizer.register_step_pre_hook(lambda *_: calls.append("hook"))
    optimizer.step(lambda: calls.append("closure") or backward(model, task()))
    assert calls == ["hook", "closure"]

"""The cost of a step: no factorization of a tall matrix, and few launches."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from stiefel_lora import create_optimizer
from stiefel_lora.geometry import roots
from stiefel_lora.optim.engine import two_passes

# Products and r x r problems only; the other methods still factor tall matrices.
CHEAP = ["scaled_adamw", "lora_rite", "stella", "stiefel_lora", "lora_muon"]
CHEAP += ["lora_tsd", "riemannion"]
FEW = ["scaled_adamw", "lora_rite", "stella", "stiefel_lora", "lora_muon"]
FEW += ["riemannion"]
STACKED = ["scaled_adamw", "lora_rite", "stella", "riemannion"]
# From this rank, CPUs compute Gram matrices in one operation, like GPUs.
RANK = 12
# The eight shapes of SDXL's layers, a twentieth of their size.
SHAPES = [
    *((64, 64), (64, 102), (32, 32), (32, 102)),
    *((512, 64), (64, 256), (256, 32), (32, 128)),
]
FACTORIZATIONS = ("qr", "svd", "eig", "pinv", "lstsq", "cholesky", "lu", "solve")
# Views, memory, marks of the profiler, and numbers and step counts, which are on the
# CPU on every device.
FREE = ("_unsafe_view", "detach", "scalar_tensor", "_local_scalar_dense")
FREE += ("empty", "new_empty", "_record_function_enter_new", "_record_function_exit")


class Counter(TorchDispatchMode):
    """Counts operations that compute, and keeps the shapes that LAPACK gets."""

    def __init__(self):
        super().__init__()
        self.operations, self.factored = 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.operations += not func.is_view and name not in FREE
        if name.startswith("linalg") and any(part in name for part in FACTORIZATIONS):
            self.factored.append(max(args[0].shape[-2:]))
        return result


def pairs(count=2):
    generator = torch.Generator().manual_seed(0)
    found = []
    for number, (out, width) in enumerate(SHAPES * count):
        up = torch.linalg.qr(torch.randn(out, RANK, generator=generator))[0]
        down = torch.randn(RANK, width, generator=generator) / width**0.5
        for role, factor in (("A", down), ("B", up.contiguous())):
            parameter = torch.nn.Parameter(factor)
            parameter.grad = 1e-3 * torch.randn(factor.shape, generator=generator)
            found.append((f"layer{number}.lora_{role}.weight", parameter))
    return found


def count_of_step(name, **options):
    optimizer = create_optimizer(name, pairs(), **options)
    for _ in range(2):
        optimizer.step()
    with Counter() as counter:
        optimizer.step()
    return counter


@pytest.mark.parametrize("name", CHEAP)
def test_nothing_tall_is_factored(name):
    counter = count_of_step(name)
    assert all(size <= 2 * RANK for size in counter.factored)


@pytest.mark.parametrize("name", FEW)
def test_a_step_on_all_shapes_of_sdxl_is_few_operations(name, monkeypatch):
    monkeypatch.setitem(two_passes.LAYOUTS, "cpu", two_passes.ACCELERATOR)
    monkeypatch.setattr(roots, "reads_freely", lambda tensor: False)
    assert count_of_step(name).operations <= 600


@pytest.mark.parametrize("name", STACKED)
@pytest.mark.parametrize("rates", [(1e-3, 1e-3), (1e-3, 2e-3)])
def test_stacks_as_on_a_gpu_give_the_same_numbers(name, rates, monkeypatch):
    results = []
    for layout in (two_passes.LAYOUTS["cpu"], two_passes.ACCELERATOR):
        monkeypatch.setitem(two_passes.LAYOUTS, "cpu", layout)
        named = [(n, torch.nn.Parameter(p.detach().double())) for n, p in pairs()]
        # Two groups whose numbers differ: those of a stack are then tensors.
        groups = [
            {"params": named[index::2], "lr": rate, "beta1": 0.5 + 0.1 * rate}
            for index, rate in enumerate(rates)
        ]
        optimizer = create_optimizer(name, groups)
        for step in range(3):
            for (_, parameter), (_, given) in zip(named, pairs(), strict=True):
                parameter.grad = (1 + step) * given.grad.double()
            optimizer.step()
        results.append([parameter.detach() for _, parameter in named])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)

"""LoRA-RITE without a stored basis: states of the first version continue."""

from __future__ import annotations

import copy

import pytest
import torch

from stiefel_lora import create_optimizer

F64 = torch.float64
OUT, WIDTH, RANK = 40, 32, 4


def start(dtype):
    generator = torch.Generator().manual_seed(0)
    sizes = ((OUT, RANK), (RANK, WIDTH))
    return [
        torch.nn.Parameter(torch.randn(size, generator=generator, dtype=dtype))
        for size in sizes
    ]


def optimizer_of(pair, **options):
    named = list(zip(["x.lora_B", "x.lora_A"], pair, strict=True))
    return create_optimizer("lora_rite", named, **{"lr": 3e-2, **options})


def train(pair, optimizer, steps, first=0):
    up, down = pair
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        goal = torch.randn(OUT, WIDTH, generator=generator, dtype=up.dtype)
        error = (up @ down).detach() - goal
        up.grad, down.grad = error @ down.detach().mT, up.detach().mT @ error
        optimizer.step()
    return (up @ down).detach()


def of_first_version(saved, before, decay):
    """Replace the small states by orthonormal bases of the factors ``before``."""
    state = copy.deepcopy(saved)
    held = state["state"]
    for index, role in ((0, "up"), (1, "down")):
        frame = held[0].pop(f"frame_{role}") * (1 - decay)
        held[0].pop(f"reach_{role}")
        point = before[index] if role == "up" else before[index].mT
        basis = point @ frame.mT
        gram = basis.mT @ basis
        identity = torch.eye(RANK, dtype=gram.dtype)
        torch.testing.assert_close(gram, identity, rtol=0, atol=1e-5)
        held[index][f"basis_{role}"] = basis if role == "up" else basis.mT
    return state


@pytest.mark.parametrize(
    "options",
    [{}, {"weight_decay": 0.5}, {"escape": True}, {"clip_norm": 0.0, "lr": 0.3}],
)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_state_of_the_first_version_continues(options, dtype):
    """It held the orthonormal basis of each factor before its last step."""
    pair = start(dtype)
    optimizer = optimizer_of(pair, **options)
    train(pair, optimizer, 4)
    before = [factor.detach().clone() for factor in pair]
    train(pair, optimizer, 1, first=4)
    decay = optimizer.param_groups[0]["lr"] * options.get("weight_decay", 0.0)
    saved = of_first_version(optimizer.state_dict(), before, decay)

    again = [torch.nn.Parameter(factor.detach().clone()) for factor in pair]
    loaded = optimizer_of(again, **options)
    loaded.load_state_dict(saved)
    wanted = train(pair, optimizer, 5, first=5)
    found = train(again, loaded, 5, first=5)
    atol = 1e-4 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(found, wanted, rtol=0, atol=atol)
    assert not any("basis" in name for held in loaded.state.values() for name in held)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_the_state_has_one_tensor_like_each_factor(dtype):
    pair = start(dtype)
    optimizer = optimizer_of(pair)
    train(pair, optimizer, 2)
    for factor in pair:
        like = [v for v in optimizer.state[factor].values() if v.shape == factor.shape]
        assert len(like) == 1

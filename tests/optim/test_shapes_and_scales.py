"""Every method on random shapes, with gradients from 1e-6 to 1e6, and near zero."""

from __future__ import annotations

import torch
from catalogue_cases import every_method, make
from hypothesis import given, settings
from hypothesis import strategies as st

from stiefel_lora.geometry import orthogonality_error

# LoRA-RITE leaves out steps with large gradients, which are half of those tried here.
OPTIONS = {"lora_rite": {"skip_above": 0.0}}


@st.composite
def layers(draw: st.DrawFn) -> tuple[int, int, int]:
    """(out, in, rank): wide, tall, square, rank 1 and rank = shorter side included."""
    out, into = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    shorter = min(out, into)
    rank = draw(st.sampled_from([1, shorter, (shorter + 1) // 2]))
    return out, into, rank


def factors(out, into, rank, seed):
    generator = torch.Generator().manual_seed(seed)
    up = torch.linalg.qr(torch.randn(out, rank, generator=generator))[0]
    down = torch.randn(rank, into, generator=generator)
    pair = torch.nn.Parameter(down), torch.nn.Parameter(up.contiguous())
    return pair, torch.randn(out, into, generator=generator)


@every_method
@settings(max_examples=25)
@given(layers(), st.floats(-6, 6), st.integers(0, 2**31 - 1))
def test_steps_are_finite_and_stay_where_they_belong(name, layer, exponent, seed):
    (down, up), slope = factors(*layer, seed)
    start = (up @ down).detach()
    named = [("layer.lora_A.weight", down), ("layer.lora_B.weight", up)]
    optimizer = make(name, named, **OPTIONS.get(name, {}))
    # The loss <slope, B A> never flattens, so it must fall by every method.
    for _ in range(4):
        optimizer.zero_grad()
        (10**exponent * (slope * (up @ down)).sum()).backward()
        optimizer.step()
    for factor in (down, up):
        assert factor.dtype == torch.float32
        assert factor.isfinite().all()
    end = (up @ down).detach()
    assert float((slope * (end - start)).sum()) < 0
    if getattr(getattr(optimizer, "rule", None), "orthonormal_up", False):
        assert orthogonality_error(up.detach()) < 1e-5


@every_method
@settings(max_examples=25)
@given(st.floats(-24, 0), st.floats(-24, 0), st.floats(-12, 0), st.integers(0, 2**31))
def test_factors_next_to_zero_stay_finite(name, up_size, down_size, size, seed):
    # Squares of such factors underflow in float32, and inverses of them overflow.
    (down, up), slope = factors(12, 9, 4, seed)
    down.data *= 10**down_size
    up.data *= 10**up_size
    named = [("layer.lora_A.weight", down), ("layer.lora_B.weight", up)]
    optimizer = make(name, named, **OPTIONS.get(name, {}))
    for _ in range(4):
        optimizer.zero_grad()
        (10**size * (slope * (up @ down)).sum()).backward()
        optimizer.step()
    assert down.isfinite().all()
    assert up.isfinite().all()


@settings(max_examples=25)
@given(st.floats(-4, 6), st.integers(0, 2**31), st.sampled_from([0.0, 0.9]))
def test_stella_with_sgd_stays_orthonormal_after_any_step(exponent, seed, beta1):
    (down, up), slope = factors(24, 18, 6, seed)
    named = [("layer.lora_A.weight", down), ("layer.lora_B.weight", up)]
    optimizer = make("stella", named, base_rule="sgd", beta1=beta1)
    for step in range(8):
        factor = 10**exponent if step == 1 else 1e-3
        move = factor * slope[:, :2] @ slope[:2]
        up.grad, down.grad = move @ down.detach().mT, up.detach().mT @ move
        optimizer.step()
        assert orthogonality_error(up.detach()) < 1e-5

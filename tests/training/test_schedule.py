from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.optimization import get_cosine_schedule_with_warmup

from stiefel_lora.training.schedule import SHAPES, learning_rate_factor, make_schedule

CASES = st.fixed_dictionaries(
    {
        "shape": st.sampled_from(sorted(SHAPES)),
        "steps": st.integers(1, 500),
        "warmup": st.integers(0, 100),
        "floor": st.floats(0, 1),
    }
)


@given(CASES)
def test_rises_to_one_then_never_rises_nor_passes_the_floor(case: dict) -> None:
    values = [learning_rate_factor(t, **case) for t in range(case["steps"])]
    warmup = min(case["warmup"], case["steps"])
    assert all(0 < v <= 1 for v in values[:warmup])
    assert values[:warmup] == sorted(values[:warmup])
    after = values[warmup:]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(after))
    assert all(case["floor"] - 1e-12 <= v <= 1 for v in after)
    if after:
        assert after[0] == pytest.approx(1.0)
    if len(after) > 1 and case["shape"] != "constant":
        assert after[-1] == pytest.approx(case["floor"])


def test_cosine_agrees_with_transformers() -> None:
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    # Theirs reaches its end one step later and begins its warm-up at zero.
    theirs = get_cosine_schedule_with_warmup(optimizer, 0, 9).lr_lambdas[0]
    ours = make_schedule(shape="cosine", steps=10, warmup=0, floor=0.0)
    assert [ours(t) for t in range(10)] == pytest.approx([theirs(t) for t in range(10)])


def test_known_values() -> None:
    cosine = make_schedule(shape="cosine", steps=6, warmup=2, floor=0.2)
    expected = [0.2 + 0.8 * (1 + math.cos(math.pi * k / 3)) / 2 for k in range(4)]
    assert [cosine(t) for t in range(6)] == pytest.approx([0.5, 1.0, *expected])
    linear = make_schedule(shape="linear", steps=5, warmup=0, floor=0.0)
    assert [linear(t) for t in range(5)] == pytest.approx([1, 0.75, 0.5, 0.25, 0])

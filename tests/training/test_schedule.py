from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.optimization import (
    get_cosine_schedule_with_warmup,
    get_cosine_with_hard_restarts_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup,
)

from helpers.runs import tiny_config
from stiefel_lora.training import read_events
from stiefel_lora.training.schedule import SHAPES, learning_rate_factor, make_schedule
from stiefel_lora.training.trainer import train

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


@pytest.mark.parametrize(("cycles", "steps"), [(1, 11), (3, 31), (7, 50), (4, 3)])
def test_restarts_agree_with_transformers(cycles: int, steps: int) -> None:
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    make = get_cosine_with_hard_restarts_schedule_with_warmup
    theirs = make(optimizer, 0, steps - 1, cycles).lr_lambdas[0]
    ours = make_schedule(
        shape="cosine_with_restarts", steps=steps, warmup=0, floor=0.0, cycles=cycles
    )
    expected = [theirs(t) for t in range(steps)]
    assert [ours(t) for t in range(steps)] == pytest.approx(expected, abs=1e-9)
    # Restarts are at full rate, and the run ends at the floor.
    if steps == 31:
        assert [ours(t) for t in (0, 10, 20)] == [1, 1, 1]
    assert ours(steps - 1) == ours(steps) == 0


def test_a_cycle_begins_at_the_full_rate_in_spite_of_rounding() -> None:
    # 49 x (1 / 49) is 0.9999999999999999 in floating point.
    ours = make_schedule(
        shape="cosine_with_restarts", steps=50, warmup=0, floor=0.0, cycles=49
    )
    assert [ours(t) for t in range(49)] == [1] * 49


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_polynomial_agrees_with_transformers(power: float) -> None:
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    make = get_polynomial_decay_schedule_with_warmup
    # Its end is an absolute rate, and the rate of the optimizer is 1.
    theirs = make(optimizer, 0, 9, lr_end=0.1, power=power).lr_lambdas[0]
    ours = make_schedule(shape="polynomial", steps=10, warmup=0, floor=0.1, power=power)
    assert [ours(t) for t in range(10)] == pytest.approx([theirs(t) for t in range(10)])


def test_rex_has_the_values_of_its_paper() -> None:
    ours = make_schedule(shape="rex", steps=11, warmup=0, floor=0.0)
    # (1 - z) / (1 - 0.9 z) at z = t / 10.
    expected = [(1 - z / 10) / (1 - 0.09 * z) for z in range(11)]
    assert [ours(t) for t in range(11)] == pytest.approx(expected)


def test_known_values() -> None:
    cosine = make_schedule(shape="cosine", steps=6, warmup=2, floor=0.2)
    expected = [0.2 + 0.8 * (1 + math.cos(math.pi * k / 3)) / 2 for k in range(4)]
    assert [cosine(t) for t in range(6)] == pytest.approx([0.5, 1.0, *expected])
    linear = make_schedule(shape="linear", steps=5, warmup=0, floor=0.0)
    assert [linear(t) for t in range(5)] == pytest.approx([1, 0.75, 0.5, 0.25, 0])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("cosine_with_restarts", [1, 0.55, 1, 0.55, 0.1]),
        ("polynomial", [1, 0.1 + 0.9 * 0.75**2, 0.325, 0.1 + 0.9 * 0.25**2, 0.1]),
    ],
)
def test_the_settings_reach_the_run(
    tiny_sdxl: Path, tmp_path: Path, shape: str, expected: list[float]
) -> None:
    config = tiny_config(
        tiny_sdxl,
        tmp_path,
        steps=5,
        learning_rate=0.2,
        learning_rate_scheduler=shape,
        learning_rate_min_factor=0.1,
        learning_rate_cycles=2,
        learning_rate_power=2.0,
        validate_every=0,
    )
    result = train(config)
    events = list(read_events(result.run_dir / "events.jsonl"))
    rates = [e["values"]["lr/unet"] for e in events if e["type"] == "train"]
    # Logged after a step, when the next rate is set.
    assert rates[:4] == pytest.approx([0.2 * factor for factor in expected[1:]])


def test_a_warmup_in_percent_reaches_the_run(tiny_sdxl: Path, tmp_path: Path) -> None:
    config = tiny_config(
        tiny_sdxl,
        tmp_path,
        steps=5,
        learning_rate=0.2,
        learning_rate_warmup_steps="80 %",
        validate_every=0,
    )
    result = train(config)
    events = list(read_events(result.run_dir / "events.jsonl"))
    rates = [e["values"]["lr/unet"] for e in events if e["type"] == "train"]
    assert rates[:4] == pytest.approx([0.1, 0.15, 0.2, 0.2])

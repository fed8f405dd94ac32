"""The protocol of ``stiefel-lora study``: what is run, chosen and reported."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from stiefel_lora import InputError
from stiefel_lora.jobs.comparison import (
    DIVERGED,
    Comparison,
    Contest,
    Losses,
    losses_of,
    swept_rates,
)
from stiefel_lora.jobs.comparison_table import as_json, markdown, rows_of
from stiefel_lora.jobs.study_runs import make_study

USUAL = {"adamw": 1e-3, "stiefel_lora": 1e-2}


def loss_of(contest: Contest, best: float) -> Losses:
    """A valley around ``best``; the seed shifts every optimizer alike."""
    value = 1 + 0.1 * math.log2(contest.rate / best) ** 2 + 0.01 * contest.seed
    return Losses(value, value + 0.5)


def played(comparison: Comparison, best: dict[str, float]) -> dict[Contest, Losses]:
    known: dict[Contest, Losses] = {}
    while missing := [c for c in comparison.wanted(known) if c not in known]:
        known |= {c: loss_of(c, best[c.optimizer]) for c in missing}
    return known


def test_every_optimizer_sweeps_and_repeats_its_best_rate_alone():
    known = played(Comparison(USUAL, (1, 2, 3)), USUAL)
    assert len(known) == 2 * 5 + 2 * 2
    for optimizer, usual in USUAL.items():
        later = {(c.rate, c.seed) for c in known if c.optimizer == optimizer}
        assert {pair for pair in later if pair[1] > 1} == {(usual, 2), (usual, 3)}


def test_a_best_rate_at_the_edge_extends_the_sweep_and_is_marked_at_the_limit():
    comparison = Comparison(USUAL, (1,))
    known = played(comparison, {"adamw": 8e-3, "stiefel_lora": 1e3})
    rows = {row.optimizer: row for row in rows_of(comparison, known)}
    assert (rows["adamw"].rate, rows["adamw"].at_edge) == (8e-3, False)
    assert rows["stiefel_lora"].at_edge
    assert len(rows["stiefel_lora"].rates) == 7
    assert "(edge)" in markdown(list(rows.values()))


def test_rates_are_chosen_on_one_half_and_reported_on_the_other():
    comparison = Comparison({"adamw": 1e-3}, (1,), rates=(1e-3, 2e-3))
    known = {
        Contest("adamw", 1e-3, 1): Losses(choose=0.2, report=0.9),
        Contest("adamw", 2e-3, 1): Losses(choose=0.3, report=0.1),
    }
    (row,) = rows_of(comparison, known)
    assert row.rate == 1e-3
    assert row.losses[1].report == 0.9


def test_differences_are_paired_by_seed():
    comparison = Comparison(USUAL, (1, 2, 3))
    known = played(comparison, USUAL)
    _, row = rows_of(comparison, known)
    assert row.differences == pytest.approx([0.0, 0.0, 0.0])
    assert "+0.00 % (+0.00 to +0.00)" in markdown([row])


def test_a_diverged_rate_counts_and_loses():
    comparison = Comparison({"adamw": 1e-3}, (1,), rates=(1e-3, 1e-2))
    known = {
        Contest("adamw", 1e-3, 1): Losses(0.3, 0.3),
        Contest("adamw", 1e-2, 1): DIVERGED,
    }
    assert comparison.best("adamw", known) == 1e-3
    known[Contest("adamw", 1e-3, 1)] = DIVERGED
    rows = rows_of(comparison, known)
    assert "every rate diverged" in markdown(rows)
    json.dumps(as_json(rows), allow_nan=False)


def test_the_sweep_of_rates_is_the_ladder():
    assert swept_rates(1e-2, 2.0, 7, lambda rate: math.nan, 5) == [
        *(0.0025, 0.005, 0.01, 0.02, 0.04)
    ]


def event(type_: str, step: int, **values: object) -> str:
    return json.dumps({"type": type_, "step": step, "time": 0, "values": values})


def write(folder: Path, *lines: str) -> Path:
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def test_losses_are_read_from_the_last_measurement(tmp_path):
    lines = [
        event("validation_images", 0, loss=[9.0, 9.0, 9.0]),
        event("validation_images", 4, loss=[1.0, 2.0, 3.0]),
    ]
    assert losses_of(write(tmp_path, *lines), 4) is None
    end = event("end", 4, mean_effective_rank=7.5, wall_seconds=3.0)
    found = losses_of(write(tmp_path, *lines, end), 4)
    assert found == Losses(2.0, 2.0, 7.5, 3.0)


def test_a_run_that_ended_with_nan_has_diverged_and_another_failure_has_not(tmp_path):
    error = event("error", 2, message="NaN", kind="NonFiniteError")
    assert losses_of(write(tmp_path, error), 4) == DIVERGED
    error = event("error", 2, message="disk full", kind="OutputError")
    assert losses_of(write(tmp_path, error), 4) is None


@pytest.mark.parametrize(
    ("optimizers", "rates", "problem"),
    [
        ("adamw,adamw", "auto", "must list different optimizers"),
        ("", "auto", "must list different optimizers"),
        ("adamw,stiefel_lroa", "auto", "stiefel_lroa"),
        ("adamw", "0.1,-1", "different positive numbers"),
        ("adamw", "fast", "different positive numbers"),
        ("adamw", "0.1,0.1", "different positive numbers"),
        ("adamw", "inf", "different positive numbers"),
    ],
)
def test_bad_input_is_one_message(optimizers, rates, problem):
    with pytest.raises(InputError, match=problem):
        make_study("demo_stiefel_lora", optimizers, rates, 3)


def test_the_options_of_the_configured_optimizer_stay(tmp_path):
    settings = (f"output_dir={json.dumps(str(tmp_path))}", "optimizer.momentum=0.7")
    study = make_study("demo_stiefel_lora", "adamw,stiefel_lora", "auto", 2, settings)
    own = study.plan(Contest("stiefel_lora", 0.02, 5)).config
    assert (own.optimizer.name, own.optimizer.arguments()["momentum"]) == (
        "stiefel_lora",
        0.7,
    )
    assert (own.learning_rate, own.seed) == (0.02, 5)

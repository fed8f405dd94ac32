"""The protocol of ``stiefel-lora study``: what is run, chosen and reported."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from PIL import Image

from stiefel_lora import InputError
from stiefel_lora.jobs import study_runs
from stiefel_lora.jobs.comparison import (
    DIVERGED,
    Comparison,
    Contest,
    Losses,
    losses_of,
    swept_rates,
)
from stiefel_lora.jobs.comparison_table import as_json, markdown, rows_of
from stiefel_lora.jobs.job import Job, JobState
from stiefel_lora.jobs.plan import Plan
from stiefel_lora.jobs.study_runs import Study, make_study

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


def test_a_seed_that_diverged_is_null_in_every_list_of_the_json():
    comparison = Comparison(USUAL, (1, 2), rates=(1e-3,))
    known = {
        Contest(name, 1e-3, seed): Losses(0.3, 0.3) for name in USUAL for seed in (1, 2)
    }
    known[Contest("stiefel_lora", 1e-3, 2)] = DIVERGED
    found = json.loads(json.dumps(as_json(rows_of(comparison, known)), allow_nan=False))
    assert found[1]["percent_against_first"] == [0.0, None]
    assert found[1]["loss_by_seed"] == {"1": 0.3, "2": None}


def test_an_incomplete_sweep_is_not_reported_as_diverged():
    comparison = Comparison({"adamw": 1e-3}, (1,), rates=(1e-3, 1e-2))
    known = {Contest("adamw", 1e-3, 1): Losses(0.3, 0.3)}
    text = markdown(rows_of(comparison, known))
    assert "none: not all rates were run" in text
    assert "diverged" not in text


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
        ("adamw,adamw", "auto", "must be a list of different optimizers"),
        ("", "auto", "must be a list of different optimizers"),
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


@pytest.mark.parametrize(
    "setting",
    [
        "optimizer.momentum=0.7",
        "optimizer.name=stiefel_lora",
        'optimizer={"name":"stiefel_lora"}',
        "optimizer.weight_decay=0.1",
    ],
)
def test_options_from_set_are_those_of_the_configured_optimizer(tmp_path, setting):
    settings = (f"output_dir={json.dumps(str(tmp_path))}", setting)
    study = make_study("demo_stiefel_lora", "adamw,stiefel_lora", "auto", 1, settings)
    for name in study.comparison.usual:
        assert study.plan(Contest(name, 1e-3, 1)).config.optimizer.name == name
    other = study.plan(Contest("adamw", 1e-3, 1)).config
    assert other.optimizer.arguments()["weight_decay"] == 0
    assert any("only used for stiefel_lora" in text for text in study.remarks)


def test_a_learning_rate_from_set_is_refused():
    with pytest.raises(InputError, match="--rates"):
        make_study("demo_adamw", "adamw", "auto", 1, ("learning_rate=0.1",))


@pytest.mark.parametrize("source", ["validation_concepts", "validation_split"])
def test_a_single_validation_image_is_refused_before_any_training(tmp_path, source):
    images, one = tmp_path / "images", tmp_path / "one"
    for folder, count in ((images, 4), (one, 1)):
        folder.mkdir()
        for number in range(count):
            Image.new("RGB", (64, 64), (number, 0, 0)).save(folder / f"{number}.png")
    settings = (
        f"concepts={json.dumps([str(images)])}",
        f"validation_concepts={json.dumps([str(one)])}"
        if source == "validation_concepts"
        else "validation_concepts=[]",
    )
    with pytest.raises(InputError, match=f"{source}: 1 validation image"):
        make_study("demo_adamw", "adamw", "auto", 1, settings)
    wide = (*settings, "validation_split=0.5")
    assert make_study("demo_adamw", "adamw", "auto", 1, wide)


def test_a_diverged_run_of_other_settings_is_refused(tmp_path):
    def study(*more: str) -> Study:
        settings = (f"output_dir={json.dumps(str(tmp_path))}", *more)
        return make_study("demo_adamw", "adamw", "0.001", 1, settings)

    first = study("clip_grad_norm=0")
    plan = first.plan(Contest("adamw", 1e-3, first.comparison.seeds[0]))
    plan.config.run_dir.mkdir(parents=True)
    text = json.dumps(plan.settings)
    (plan.config.run_dir / "config.json").write_text(text, "utf-8")
    write(plan.config.run_dir, event("error", 2, message="NaN", kind="NonFiniteError"))
    assert list(first.known().values()) == [DIVERGED]
    with pytest.raises(InputError, match="clip_grad_norm"):
        study().known()


def test_an_optimizer_that_fails_keeps_no_other_from_its_seeds(tmp_path, monkeypatch):
    settings = (f"output_dir={json.dumps(str(tmp_path))}",)
    names = "adamw,lora_rite"
    study = make_study("demo_adamw", names, "0.001", 2, settings)
    rounds: list[int] = []

    def run_batch(folder: Path, plans: list[Plan], slots: list[str]) -> list[Job]:
        rounds.append(len(plans))
        return [finish(plan, "lora_rite") for plan in plans]

    monkeypatch.setattr(study_runs, "run_batch", run_batch)
    outcome = study.run(tmp_path / "study", ["cpu"])
    assert rounds == [2, 3]
    assert {contest.optimizer for contest in outcome.known} == {"adamw"}
    assert {contest.seed for contest in outcome.known} == set(study.comparison.seeds)
    assert [job.state for job in outcome.failed] == [JobState.FAILED]
    assert not outcome.interrupted


def finish(plan: Plan, failing: str) -> Job:
    """The job of a plan as its training leaves it."""
    folder, steps = plan.config.run_dir, plan.config.steps
    fails = plan.config.optimizer.name == failing
    if not fails:
        folder.mkdir(parents=True, exist_ok=True)
        losses = event("validation_images", steps, loss=[1.0, 2.0])
        write(folder, losses, event("end", steps))
    return Job(
        id=1,
        config=plan.settings,
        source=plan.source,
        changes=plan.changes,
        run_dir=folder,
        state=JobState.FAILED if fails else JobState.DONE,
        wish=None,
        device="cpu",
        attempt=1,
        deaths=0,
        pid=None,
        pid_started=None,
        exit_code=int(fails),
        message="",
        added=0.0,
        started=0.0,
        seconds=1.0,
        saved_step=0,
    )

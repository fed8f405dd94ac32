"""The study's choice of runs and its tables, from rows made for the purpose."""

from __future__ import annotations

import json
from types import ModuleType

import pytest


@pytest.fixture
def stage(study: ModuleType) -> object:
    """Two methods in one cell each."""
    cells = tuple(
        study.stages.Cell("sdxl", method, 16, 120)
        for method in (study.stages.ADAMW, study.stages.PRODUCT)
    )
    return study.stages.Stage("Two methods", study.stages.ADAMW, cells)


def _row(study: ModuleType, first: float, second: float, **more: object) -> dict:
    curve = [[1.0, 1.0], [first, second]]
    row = {"curve": curve, "by_image": curve[-1], "numerics": study.one_run.NUMERICS}
    return {**row, "effective_rank_mean": 8.0, **more}


def _run_all(study: ModuleType, stage: object, loss: object) -> dict:
    """Rows of all runs that the stage asks for."""
    done: dict[str, dict] = {}
    while run := stage.next_run(done, set()):
        done[run.key] = _row(study, *loss(run))
        assert len(done) < 100
    return done


def _best_at(rate: float) -> object:
    """Losses of a run: lowest at ``rate``; the product 1 % below AdamW."""

    def loss(run: object) -> tuple[float, float]:
        away = abs(run.rate - rate) / rate
        share = 0.99 if "Stiefel" in run.key else 1.0
        return 0.25 + away / 10, share * (0.24 + run.seed / 1000)

    return loss


def test_a_stage_sweeps_every_method_and_runs_its_best_rate_with_all_seeds(
    study: ModuleType, stage: object
) -> None:
    done = _run_all(study, stage, _best_at(3e-3))
    rates = {float(f"{3e-3 * 2.0**e:.3g}") for e in range(-2, 3)}
    adamw = [key for key in done if "AdamW" in key]
    assert len(adamw) == 5 + 2
    assert stage.cells[0].best(done) == 3e-3
    assert {r for r in rates if any(f"lr {r:.3g} " in key for key in adamw)} == rates


def test_a_best_rate_at_the_edge_extends_the_sweep(
    study: ModuleType, stage: object
) -> None:
    done = _run_all(study, stage, _best_at(2.4e-2))
    assert stage.cells[0].sweep(done)[-1] == pytest.approx(4.8e-2)
    assert stage.cells[0].best(done) == 2.4e-2


def test_the_table_gives_the_half_that_no_rate_was_chosen_on(
    study: ModuleType, stage: object
) -> None:
    done = _run_all(study, stage, _best_at(3e-3))
    adamw, product = study.tables.report(stage, done).splitlines()[-2:]
    assert "0.2420 (0.2410-0.2430)" in adamw
    assert "-1.00 %" in product
    assert "0.2500" not in adamw + product


def test_rows_of_other_numerics_are_left_out(study: ModuleType, stage: object) -> None:
    done = _run_all(study, stage, _best_at(3e-3))
    for row in done.values():
        row["numerics"] -= 1
    assert all(stage.cells[0].rows(done, rate) == {} for rate in (3e-3, 6e-3))
    assert "not run" in study.tables.report(stage, done)


def test_a_run_that_diverged_counts(study: ModuleType, stage: object) -> None:
    done = _run_all(study, stage, _best_at(3e-3))
    for key, row in done.items():
        if "AdamW" in key and "seed 2" in key:
            del row["curve"], row["by_image"], row["effective_rank_mean"]
            row |= {"held_out": 9.0, "diverged": True}
    assert "-9.00" in study.tables.report(stage, done).replace("0.2410-9.0000", "-9.00")


def test_the_interval_is_students(study: ModuleType) -> None:
    low, high = study.tables.paired_interval([1.0, 2.0, 3.0])
    assert (low, high) == (
        pytest.approx(2 - 4.303 / 3**0.5),
        pytest.approx(2 + 4.303 / 3**0.5),
    )


def test_every_run_of_every_stage_has_a_valid_config(study: ModuleType) -> None:
    from helpers.plugin_methods import forgetting_plugins
    from stiefel_lora.config import load_config

    with forgetting_plugins():
        for stage in study.stages.STAGES.values():
            for cell in stage.cells:
                run = cell.runs(cell.method.rate)[0]
                settings = run.own_settings().items()
                pairs = [f"{key}={json.dumps(value)}" for key, value in settings]
                load_config(study.one_run.PRESETS[run.base], pairs)

"""``stiefel-lora study`` with real, small trainings."""

from __future__ import annotations

import pytest

from helpers.jobs import tiny_file
from stiefel_lora.jobs.comparison import Contest
from stiefel_lora.jobs.report import write_report
from stiefel_lora.jobs.study_runs import make_study

pytestmark = pytest.mark.slow


def test_a_study_runs_to_its_table_and_again_without_training(tiny_sdxl, tmp_path):
    config = tiny_file(tiny_sdxl, tmp_path, "cats", steps=2, validate_every=1)
    settings = ("validation_concepts=[]", "validation_split=0.5")
    study = make_study(str(config), "adamw,stiefel_lora", "0.001", 2, settings)
    folder = tmp_path / "study"
    outcome = study.run(folder, ["cpu"])
    assert not outcome.failed
    assert set(outcome.known) == {
        Contest(name, 0.001, seed)
        for name in ("adamw", "stiefel_lora")
        for seed in study.comparison.seeds
    }
    again = study.run(folder, ["cpu"])
    assert again.known == outcome.known
    assert {job.attempt for job in again.jobs} == {1}
    _, page = write_report(folder, again.jobs, "study")
    assert all(job.name in page.read_text("utf-8") for job in outcome.jobs)
    journal = (folder / "journal.txt").read_text("utf-8")
    assert journal.count("attempt 1") == 4

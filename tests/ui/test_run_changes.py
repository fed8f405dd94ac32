"""Changes of a run since a view was last updated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.written_run import WrittenRun
from stiefel_lora.ui.controllers.run_changes import CurveCursor, RankCursor
from stiefel_lora.ui.controllers.run_record import RunRecord


@pytest.fixture
def run(tmp_path: Path) -> WrittenRun:
    written = WrittenRun(tmp_path / "run", blocks=3, rank=16)
    written.start()
    return written


def test_only_new_points_are_reported(run):
    record, cursor = RunRecord(run.root), CurveCursor("Loss")
    run.train(1, loss=0.5)
    record.look()
    first = cursor.changes(record)
    assert first.reload
    assert [curve.tag for curve in first.curves or []] == [
        "loss/train",
        "loss/train_smooth",
    ]
    assert first.points["loss/train"] == [(1.0, 0.5)]
    assert not cursor.changes(record)
    run.train(2, loss=0.25)
    record.look()
    second = cursor.changes(record)
    assert not second.reload
    assert second.curves is None
    assert second.points == {
        "loss/train": [(2.0, 0.25)],
        "loss/train_smooth": [(2.0, 0.25)],
    }


def test_a_new_curve_is_announced(run):
    record, cursor = RunRecord(run.root), CurveCursor("Loss")
    run.train(1)
    record.look()
    cursor.changes(record)
    run.sink.scalars("validation", 1, {"validation/loss": 0.4})
    record.look()
    found = cursor.changes(record)
    assert [curve.tag for curve in found.curves or []][-1] == "validation/loss"
    assert list(found.points) == ["validation/loss"]


def test_a_resumed_run_is_sent_again(run):
    record = RunRecord(run.root)
    curves, ranks = CurveCursor("Loss"), RankCursor()
    for step in (1, 2, 3):
        run.train(step)
        run.ranks(step)
    record.look()
    curves.changes(record)
    assert ranks.changes(record).steps == [1, 2, 3]
    run.start("resume", 1)
    run.train(2, loss=0.1)
    run.ranks(2)
    record.look()
    again = curves.changes(record)
    assert again.reload
    assert again.points["loss/train"] == [(1.0, 0.5), (2.0, 0.1)]
    columns = ranks.changes(record)
    assert columns.reload
    assert columns.steps == [1, 2]


def test_only_new_columns_are_reported(run):
    record, cursor = RunRecord(run.root), RankCursor()
    run.ranks(10, share=0.5)
    record.look()
    first = cursor.changes(record)
    assert first.reload
    assert first.columns.tolist() == [[128, 128, 128]]
    assert not cursor.changes(record)
    run.ranks(20, share=1.0)
    record.look()
    second = cursor.changes(record)
    assert not second.reload
    assert second.steps == [20]
    assert second.columns.tolist() == [[255, 255, 255]]
    assert cursor.shown == [0, 1]


def test_long_curves_keep_their_extremes_and_their_end(run):
    record, cursor = RunRecord(run.root), CurveCursor("Loss")
    values = np.full(50_000, 0.5)
    values[[777, 31_000]] = 0.01, 9.0
    values[-1] = 0.25
    for step, value in enumerate(values, start=1):
        record._numbers(step, {"loss/train": float(value)})
    points = cursor.changes(record).points["loss/train"]
    assert len(points) <= 2001
    assert (778.0, 0.01) in points
    assert (31_001.0, 9.0) in points
    assert points[-1] == (50_000.0, 0.25)
    assert points == sorted(points)


def test_a_view_that_has_grown_long_is_replaced(run):
    record, cursor = RunRecord(run.root), CurveCursor("Loss")
    record._numbers(1, {"loss/train": 0.5})
    assert cursor.changes(record).reload
    for step in range(2, 2503):
        record._numbers(step, {"loss/train": 0.5})
        found = cursor.changes(record)
        assert found.reload == (step == 2003), step


def test_many_columns_are_thinned_out(run, monkeypatch):
    monkeypatch.setattr("stiefel_lora.ui.controllers.run_changes._MOST_COLUMNS", 4)
    record, cursor = RunRecord(run.root), RankCursor()
    for step in range(1, 5):
        run.ranks(step)
    record.look()
    assert cursor.changes(record).steps == [1, 2, 3, 4]
    run.ranks(5)
    record.look()
    found = cursor.changes(record)
    assert found.reload
    assert found.steps == [1, 3, 5]
    assert cursor.shown == [0, 2, 4]
    run.ranks(6)
    record.look()
    assert not cursor.changes(record)

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.written_run import WrittenRun
from stiefel_lora.runs.events import read_events
from stiefel_lora.ui.controllers import new_events
from stiefel_lora.ui.controllers.rank_table import RankTable
from stiefel_lora.ui.controllers.run_record import RunRecord
from stiefel_lora.ui.controllers.status import figures


@pytest.fixture
def run(tmp_path):
    return WrittenRun(tmp_path / "Lauf 猫")


@pytest.fixture
def record(run):
    return RunRecord(run.root)


def test_a_record_takes_up_what_is_new(run, record):
    assert not record.look()
    run.start()
    for step in range(1, 4):
        run.train(step, loss=1 / step)
    assert record.look()
    assert (record.state, record.step, record.steps) == ("running", 3, 100)
    run.train(4, loss=0.25)
    record.look()
    series = record.series["loss/train"]
    np.testing.assert_allclose(series.values, [1, 1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_array_equal(series.steps, [1, 2, 3, 4])
    assert not record.look()


def test_half_a_line_waits_for_its_other_half(run, record):
    run.start()
    record.look()
    with record.folder.events_file.open("a", encoding="utf-8") as file:
        file.write('{"type": "train", "step": 1, "time": 1.0, ')
        file.flush()
        assert not record.look()
        file.write('"values": {"loss/train": 2.0}}\n')
    assert record.look()
    assert record.latest("loss/train") == 2.0


def test_junk_in_the_file_is_passed_over(run, record):
    with record.folder.events_file.open("a", encoding="utf-8") as file:
        file.write('not json\n[1]\n{"type": "train"}\n{"values": {}, "step": "x"}\n')
        file.write('{"type": "train", "step": 9, "values": {"loss/train": 1}}\n')
        file.write('{"type": "sample", "step": 9, "values": {"files": 1}}\n')
    run.train(1)
    record.look()
    assert record.step == 1


def test_the_heat_map_has_a_column_a_measurement(run, record):
    run.start()
    run.ranks(5, share=0.5)
    run.ranks(10, share=1.0)
    record.look()
    assert record.ranks.steps == [5, 10]
    assert record.ranks.blocks == run.blocks
    np.testing.assert_array_equal(record.ranks.shares, [[128] * 6, [255] * 6])
    assert record.ranks.sections() == [(0, "down_blocks.0"), (3, "down_blocks.1")]
    line = record.ranks.describe(0, 4)
    for part in ("step 5", "down_blocks.1.layer.1", "8.0 of 16", "2.0", "1e-06"):
        assert part in line
    assert "effective_rank.down_blocks.0/layer.0" not in record.series


def test_a_table_grows_beyond_its_first_room():
    table = RankTable()
    table.rank = 10
    for step in range(200):
        table.add(step, {"effective_rank.a/b": step / 20, "effective_rank.a/c": None})
    assert table.shares.shape == (200, 2)
    np.testing.assert_array_equal(table.shares[[0, 100, 199], 0], [0, 128, 254])
    assert not table.shares[:, 1].any()


def test_a_resumed_run_forgets_what_came_after_its_checkpoint(run, record):
    run.start()
    for step in range(1, 9):
        run.train(step)
        run.ranks(step)
    run.sample(8)
    record.look()
    run.start("resume", step=4)
    run.train(5, loss=0.1)
    record.look()
    assert record.step == 5
    assert record.ranks.steps == [1, 2, 3, 4]
    assert record.rounds == []
    np.testing.assert_array_equal(record.series["loss/train"].steps, [1, 2, 3, 4, 5])


def test_ends_and_files_are_known(run, record):
    run.start()
    run.sample(0)
    run.sink.event("lora", 7, {"files": ["cats.safetensors"]})
    run.sink.event("stop", 7, {})
    record.look()
    assert record.state == "stopped"
    assert record.lora_files == [run.root / "lora" / "cats.safetensors"]
    assert record.rounds[0].files[0].is_file()
    run.sink.event("error", 7, {"message": "The disk is full."})
    record.look()
    assert (record.state, record.message) == ("failed", "The disk is full.")


def test_time_left_is_that_of_the_latest_steps(run, record, monkeypatch):
    run.start()
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(
        "stiefel_lora.runs.events.time.time", lambda: float(next(clock))
    )
    for step in range(1, 21):
        run.train(step)
    record.look()
    assert record.seconds_left == pytest.approx(160.0)


def test_a_long_file_is_read_in_parts(run, record, monkeypatch):
    monkeypatch.setattr("stiefel_lora.ui.controllers.new_events._BYTES", 2000)
    run.start()
    for step in range(1, 101):
        run.train(step)
    looks = 0
    while record.look():
        looks += 1
    assert looks > 3
    assert record.step == 100
    assert not record.behind


def test_a_line_longer_than_a_part_is_read(run, record):
    run.start()
    run.ranks(1)
    run.train(2)
    while record.take(record.reading(100)()):
        pass
    assert (record.step, record.ranks.steps) == (2, [1])


def test_events_that_were_read_twice_are_taken_once(run, record):
    run.start()
    run.train(1, loss=1.0)
    first, second = record.reading()(), record.reading()()
    assert record.take(first)
    assert not record.take(second)
    assert len(record.series["loss/train"]) == 1


def test_the_status_names_the_step_of_an_earlier_measurement(run, record):
    run.start()
    run.sink.scalars("validation", 0, {"validation/loss": 0.4174})
    run.train(2, loss=0.5)
    record.look()
    assert figures(record, None).endswith("validation loss (step 0) 0.4174")
    run.sink.scalars("validation", 2, {"validation/loss": 0.4})
    record.look()
    assert figures(record, None).endswith("validation loss 0.4000")


def test_lines_that_are_nested_too_deeply_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    event = {"type": "train", "step": 1, "values": {"loss": 1.0}}
    path.write_text('{"a":' * 5000 + "\n" + json.dumps(event) + "\n")
    assert [found["step"] for found in new_events.read_events(path, 0).events] == [1]
    assert [found["step"] for found in read_events(path)] == [1]

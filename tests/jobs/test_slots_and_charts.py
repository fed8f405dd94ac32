from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from stiefel_lora import ConfigError
from stiefel_lora.jobs import parse_slots
from stiefel_lora.jobs.charts import Chart, Frame
from stiefel_lora.jobs.processes import birth, send_end, start_detached
from stiefel_lora.jobs.slots import cores, environment_of, free_device
from stiefel_lora.jobs.tail import Progress, Tail, Watch
from stiefel_lora.runs.run_folder import RunFolder


class Running:
    def __init__(self, device):
        self.device = device


@pytest.mark.parametrize(
    ("jobs", "devices", "slots"),
    [
        (None, None, [""]),
        (3, None, ["", "", ""]),
        (None, "0,1", ["0", "1"]),
        (1, "0,1", ["0"]),
        (None, "cpu,cpu", ["cpu", "cpu"]),
        (None, " cuda:1 , xpu:0", ["cuda:1", "xpu:0"]),
    ],
)
def test_slots(jobs, devices, slots):
    assert parse_slots(jobs, devices) == slots


@pytest.mark.parametrize(
    ("jobs", "devices", "message"),
    [
        (0, None, "--jobs: must be at least 1, but got 0"),
        (None, "gpu0", "is not a list of devices. Use GPU numbers"),
        (None, "", "is not a list of devices. Use GPU numbers"),
        (None, "0,0", "contains 0 twice"),
        (3, "0,1", "--jobs: must be at most the number of --devices .2., but got 3"),
    ],
)
def test_slots_that_are_refused(jobs, devices, message):
    with pytest.raises(ConfigError, match=message):
        parse_slots(jobs, devices)


@pytest.mark.parametrize(
    ("slots", "running", "free"),
    [
        (["0", "1"], [], "0"),
        (["0", "1"], ["0"], "1"),
        (["0", "1"], ["1", "0"], None),
        (["0"], ["7"], "0"),
        (["", ""], [""], ""),
        (["", ""], ["", ""], None),
        # A job of an earlier runner with devices counts for one without.
        ([""], ["7"], None),
        (["cpu", "cpu"], ["cpu"], "cpu"),
    ],
)
def test_one_job_a_device(slots, running, free):
    assert free_device(slots, map(Running, running)) == free


def test_a_gpu_is_the_only_one_its_job_sees():
    assert environment_of("3") == {"CUDA_VISIBLE_DEVICES": "3"}
    assert environment_of("cpu") == {}


@pytest.mark.parametrize(
    ("slots", "available", "threads"),
    [(2, 2, "1"), (2, 8, "4"), (3, 8, "2"), (9, 4, "1")],
)
def test_jobs_that_run_at_a_time_share_the_cores(
    slots, available, threads, monkeypatch
):
    monkeypatch.setattr("stiefel_lora.jobs.slots.cores", lambda: available)
    assert environment_of("", slots, {}) == {"OMP_NUM_THREADS": threads}
    gpu = {"CUDA_VISIBLE_DEVICES": "1", "OMP_NUM_THREADS": threads}
    assert environment_of("1", slots, {}) == gpu
    # One job has all cores, and a number that was set by hand is kept.
    assert environment_of("", 1, {}) == {}
    assert environment_of("", slots, {"OMP_NUM_THREADS": "7"}) == {}


def test_cores_are_those_of_this_process():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_tail_gives_whole_lines_once(tmp_path):
    path = tmp_path / "log"
    tail = Tail(path)
    assert tail.lines() == []
    path.write_bytes(b"one\ntw")
    assert tail.lines() == ["one"]
    assert tail.lines() == []
    with path.open("ab") as file:
        file.write(b"o\nthree\n")
    assert tail.lines() == ["two", "three"]
    path.write_bytes(b"new\n")
    assert tail.lines() == ["new"]
    assert Tail(path, at_end=True).lines() == []


def test_progress_is_read_beside_damaged_lines(tmp_path):
    folder = RunFolder(tmp_path)
    event = {"type": "train", "step": 5, "values": {"loss/train_smooth": 1.0}}
    lines = ['{"a":' * 5000, "no json", "[]", json.dumps(event), ""]
    folder.events_file.write_text("\n".join(lines))
    assert Watch(SimpleNamespace(folder=folder)).progress() == Progress(5, 1.0)


def test_progress_keeps_the_latest_of_each_figure():
    progress = Progress()
    progress.take({"type": "validation", "step": 0, "values": {"validation/loss": 2.0}})
    progress.take({"type": "train", "step": 5, "values": {"loss/train_smooth": 1.0}})
    progress.take({"type": "ranks", "step": 5, "values": {"effective_rank/mean": 3.0}})
    assert progress == Progress(5, 1.0, 2.0, 3.0)
    steps = [progress.step_of(n) for n in ("loss", "validation_loss", "effective_rank")]
    assert steps == [5, 0, 5]
    progress.take({"type": "resume", "step": 4, "values": {}})
    assert progress.step == 4


def test_a_detached_process_is_in_no_group_of_ours(tmp_path):
    child = start_detached("this", [], tmp_path / "logs" / "log")
    assert child.wait(60) == 0
    assert "Zen of Python" in (tmp_path / "logs" / "log").read_text()
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    began = birth(sleeper.pid)
    assert abs(began - time.time()) < 60
    assert os.getpgid(sleeper.pid) == os.getpgid(0)
    # Another process has the number now: it is left alone.
    assert not send_end(sleeper.pid, began - 60)
    assert sleeper.poll() is None
    assert send_end(sleeper.pid, began)
    assert sleeper.wait(60) == -15
    assert not send_end(sleeper.pid, began)
    assert birth(sleeper.pid) is None


def test_jobs_are_started_in_a_session_of_their_own(tmp_path):
    code = "import json, os; print(json.dumps([os.getsid(0), os.getpid()]))"
    (tmp_path / "probe.py").write_text(code)
    log = tmp_path / "log"
    env = {"PYTHONPATH": str(tmp_path)}
    assert start_detached("probe", [], log, env).wait(60) == 0
    session, pid = json.loads(log.read_text())
    assert session == pid != os.getsid(0)


def test_charts_share_their_frame():
    curves = [[(0, 1.0), (100, 0.5)], [(0, 2.0), (50, 1.5)]]
    frame = Frame.around("loss", curves)
    assert (frame.steps, frame.low, frame.high) == (100, 0.5, 2.0)
    chart = Chart(frame, curves[0])
    assert chart.last == "0.5"
    first, last = (tuple(map(float, p.split(","))) for p in chart.points.split())
    assert first == pytest.approx((frame.x(0), frame.y(1.0)), abs=0.05)
    assert last == pytest.approx((frame.x(100), frame.y(0.5)), abs=0.05)
    assert frame.y(2.0) < frame.y(0.5)  # up on the screen is less


def test_long_curves_are_thinned_and_keep_their_end():
    curve = [(step, float(step)) for step in range(10_001)]
    frame = Frame.around("loss", [curve])
    points = frame.path(curve).split()
    assert len(points) < 150
    assert points[-1] == f"{frame.x(10_000):.1f},{frame.y(10_000.0):.1f}"


def test_nothing_to_draw_and_a_flat_line():
    assert Frame.around("loss", [[], []]) is None
    flat = Frame.around("loss", [[(0, 0.0), (1, 0.0)]])
    assert flat.low <= 0 < flat.high

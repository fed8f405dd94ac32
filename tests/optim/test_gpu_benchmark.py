"""The GPU benchmark runs whole on a CPU, where it measures nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stiefel_lora.optim.engine.two_passes import ACCELERATOR, LAYOUTS

ROOT = Path(__file__).resolve().parents[2]
ROWS = ["torch AdamW fused", "lora_rite", "stiefel_lora"]


@pytest.mark.slow
def test_it_runs_whole_on_a_cpu(tmp_path):
    script = [sys.executable, str(ROOT / "benchmarks" / "on_gpu.py")]
    size = ["--model", "sdxl", "--rank", "2", "4", "--every", "400", "--repeats", "1"]
    options = ["--device", "cpu", *size, "--output", str(tmp_path), "--rows", *ROWS]
    subprocess.run([*script, *options], check=True, capture_output=True)
    record = json.loads((tmp_path / "on_gpu.json").read_text("utf-8"))
    assert [row["method"] for row in record["methods"]] == ["stiefel_lora", "lora_rite"]
    assert all(row["resume"] for row in record["methods"])
    assert all(row["gap to the CPU"] == "not measured" for row in record["methods"])
    prices = record["prices"]
    assert {row["rank"] for row in prices} == {2, 4}
    assert {row["method"] for row in prices} == set(ROWS)
    # A CPU is no GPU: nothing of it may look like a measurement.
    for key in ("ms", "times AdamW", "graph ms", "kernels", "synchronizes"):
        assert {row[key] for row in prices} == {"not measured"}
    assert {row["computed ms"] for row in prices} == {"not all layers"}
    (step,) = record["steps"]
    assert (step["model"], step["method"], step["finite"]) == (
        *("sdxl, the demo's", "stiefel_lora"),
        True,
    )
    assert step["step ms"] == step["peak GB"] == "not measured"
    # Weights, factors, gradients and state of the demo's SDXL: 33 MB, and activations.
    assert 0.03 < step["computed peak GB"] < 0.1
    (run,) = record["quickstart"]
    assert run["steps"] == 2
    cells = (run[key] for key in ("seconds", "loss before", "loss after"))
    assert set(cells) == {"not measured"}
    assert "no GPU was used" in record["note"]
    table = (tmp_path / "on_gpu.md").read_text("utf-8")
    assert table.startswith("**Nothing was measured**: no GPU was used (device cpu")
    assert table.count("\n| sdxl |") == len(prices)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["on_gpu.py", "optimizer_step.py"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "adam"], "argument --rows: invalid choice: 'adam' (choose from"),
        pytest.param(
            ["--device", "cuda"],
            "argument --device: cuda cannot be used by torch",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU"),
        ),
        (["--device", "gpu"], "argument --device: gpu cannot be used by torch"),
        (["--rank", "0"], "argument --rank: '0' must be an integer from 1."),
        (["--every", "-5"], "argument --every: '-5' must be an integer from 1."),
        (["--repeats", "few"], "argument --repeats: 'few' must be an integer from 1."),
    ],
)
def test_wrong_options_are_one_message(script, options, message):
    command = [sys.executable, str(ROOT / "benchmarks" / script), *options]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert found.returncode == 2
    assert message in found.stderr
    assert "Traceback" not in found.stderr


def test_the_computed_time_is_that_of_the_longest_bound(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from roofline import LAUNCH_SECONDS, Gpu, computed

    gpu = Gpu("a gpu", bytes_per_second=1e9, float32=1e12, float64=1e9)
    one, two = torch.zeros(1000, 2000), torch.zeros(2000, 3000)
    moved = 4 * (2e6 + 6e6 + 3e6)
    found = computed(lambda: one @ two, gpu)
    assert (found.launches, found.bytes, found.flops) == (1, moved, 12e9)
    assert found.seconds == max(moved / 1e9, 12e9 / 1e12)
    # Ten layers of which one is there: the same launches.
    found = computed(lambda: one @ two, gpu, layers=10)
    assert (found.launches, found.bytes) == (1, 10 * moved)
    # A small operation takes a launch, a view nothing, and LAPACK is counted apart.
    small = torch.eye(4, dtype=torch.float64)
    found = computed(lambda: torch.linalg.eigh(small.mT @ small), gpu)
    assert (found.launches, found.factorizations) == (2, 1)
    assert found.flops == found.flops64 == 128
    assert found.seconds == 2 * LAUNCH_SECONDS


def test_the_table_of_computed_times_covers_the_methods(tmp_path):
    script = [sys.executable, str(ROOT / "benchmarks" / "optimizer_step.py")]
    size = ["--rank", "2", "--every", "400", "--repeats", "1", "--rows", *ROWS]
    path = tmp_path / "prices.json"
    options = ["--computed", "RTX 4090", "--json", str(path)]
    run = subprocess.run(
        [*script, *size, *options], check=True, capture_output=True, text=True
    )
    (found,) = json.loads(path.read_text("utf-8"))["ranks"]
    assert set(found["computed"]) == set(found["seconds"]) == set(ROWS)
    assert found["computed"]["lora_rite"]["flops64"] > 0
    head = next(line for line in run.stdout.splitlines() if line.startswith("| | GB"))
    # No number of this table may look like a measurement.
    cells = [cell for cell in head.strip("|").split("|")[1:] if "factor" not in cell]
    assert all("computed" in cell for cell in cells)


@pytest.mark.parametrize("name", ["stella", "adamw", "stiefel_lora"])
def test_step_counters_cost_no_launch_and_no_wait(name, monkeypatch):
    """They are on the CPU on every device, also where the other tensors are not."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setitem(LAYOUTS, "cpu", ACCELERATOR)
    from layer_shapes import make_pairs
    from optimizer_step import open_rows
    from step_cost import step_cost

    row = open_rows(make_pairs("sdxl", 2, torch.device("cpu"), every=400), [name])[name]
    row.step()
    assert row.counters() or name == "stiefel_lora"
    assert step_cost(row.step, row.counters()).waits == 0
    # Any other number that Python reads is a wait.
    number = torch.zeros(())
    assert step_cost(lambda: float(number + 1), row.counters()).waits == 1
    found = step_cost(lambda: float(number + 1), [number])
    assert (found.waits, found.operations) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "option"), [("on_gpu.py", "--output"), ("optimizer_step.py", "--json")]
)
def test_a_target_that_cannot_be_written_is_found_first(tmp_path, script, option):
    (tmp_path / "file").touch()
    target = str(tmp_path / "file" / "inside")
    command = [sys.executable, str(ROOT / "benchmarks" / script), option, target]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert found.returncode == 2
    assert "cannot be written" in found.stderr
    assert not found.stdout

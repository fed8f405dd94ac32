"""The GPU benchmark runs whole on a CPU, where it measures nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = ["torch AdamW fused", "lora_rite", "scaled_adamw"]


def test_it_runs_whole_on_a_cpu(tmp_path):
    script = [sys.executable, str(ROOT / "benchmarks" / "on_gpu.py")]
    size = ["--model", "sdxl", "--rank", "2", "4", "--every", "400", "--repeats", "1"]
    options = ["--device", "cpu", *size, "--output", str(tmp_path), "--rows", *ROWS]
    subprocess.run([*script, *options], check=True, capture_output=True)
    record = json.loads((tmp_path / "on_gpu.json").read_text("utf-8"))
    assert [row["method"] for row in record["methods"]] == ["lora_rite", "scaled_adamw"]
    assert all(row["resume"] for row in record["methods"])
    assert all(row["gap to the CPU"] == 0 for row in record["methods"])
    prices = record["prices"]
    assert {row["rank"] for row in prices} == {2, 4}
    assert {row["method"] for row in prices} == set(ROWS)
    # A CPU is no GPU: nothing of it may look like a measurement.
    for key in ("ms", "times AdamW", "kernels", "synchronizes"):
        assert {row[key] for row in prices} == {"not measured"}
    assert all(row["computed ms"] > 0 for row in prices)
    table = (tmp_path / "on_gpu.md").read_text("utf-8")
    assert table.count("\n| sdxl |") == len(prices)

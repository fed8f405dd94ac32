"""Measure the time of ``stiefel-lora batch --dry-run`` for 200 jobs.

python benchmarks/batch_dry_run.py
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNS = 5
CONFIGS, SEEDS = 20, 10


def main() -> None:
    """Make configs of the demo, check and list their jobs, print the seconds."""
    preset = ROOT / "training_presets/SDXL/demo_stiefel_lora.json"
    settings = json.loads(preset.read_text(encoding="utf-8"))
    demo = ROOT / "modules/stiefel_lora/demo"
    settings["base_model_name"] = str(demo / "sdxl")
    settings["concepts"] = str(demo / "pictures/train")
    settings["validation_concepts"] = str(demo / "pictures/validation")
    with tempfile.TemporaryDirectory() as folder:
        configs = [Path(folder, f"cats_{number}.json") for number in range(CONFIGS)]
        for config in configs:
            config.write_text(json.dumps(settings), encoding="utf-8")
        sweep = "seed=" + ",".join(map(str, range(SEEDS)))
        command = [sys.executable, "-m", "stiefel_lora", "batch", *map(str, configs)]
        command += ["--sweep", sweep, "--dry-run"]
        seconds = [_timed(command, folder) for _ in range(RUNS)]
    print(f"200 jobs, {RUNS} runs: median {statistics.median(seconds):.2f} s, ", end="")
    print(f"{min(seconds):.2f} .. {max(seconds):.2f} s; ", end="")
    # On a busy machine this is more reliable than the clock.
    used = os.times()
    busy = (used.children_user + used.children_system) / RUNS
    print(f"{busy:.2f} s of processor time a run")


def _timed(command: list[str], folder: str) -> float:
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False
    )
    took = time.perf_counter() - began
    assert "\n200 jobs; results go to " in done.stdout, done.stdout + done.stderr
    return took


if __name__ == "__main__":
    main()

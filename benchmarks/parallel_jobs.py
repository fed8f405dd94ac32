"""Measure two trainings of a batch at a time on the CPU, beside one after the other.

python benchmarks/parallel_jobs.py

Each round trains the same two jobs with --jobs 1, with --jobs 2, and with --jobs 2 with
a thread for every core in both, as before the cores were shared.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from stiefel_lora.jobs.slots import THREADS, cores

WAYS = {
    "--jobs 1": ("1", {}),
    "--jobs 2": ("2", {}),
    "--jobs 2, all cores in both": ("2", {THREADS: str(cores())}),
}


def main() -> None:
    """Print the seconds of each way and their ratios to --jobs 1."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(arguments.rounds):
        for way in WAYS:
            seconds[way].append(_timed(way, arguments.steps))
            print(f"{way}: {seconds[way][-1]:.1f} s", flush=True)
    alone = statistics.median(seconds["--jobs 1"])
    print(f"{cores()} cores, {arguments.steps} steps, {arguments.rounds} rounds:")
    for way, found in seconds.items():
        middle = statistics.median(found)
        print(
            f"{way}: median {middle:.1f} s ({min(found):.1f} to {max(found):.1f}), "
            f"{middle / alone:.2f} x --jobs 1"
        )


def _timed(way: str, steps: int) -> float:
    jobs, environment = WAYS[way]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "stiefel_lora", "batch", "demo_stiefel_lora"]
        command += [
            "--sweep",
            "seed=1,2",
            "--jobs",
            jobs,
            "--folder",
            f"{folder}/batch",
        ]
        for setting in (f"steps={steps}", "samples=[]", f"output_dir={folder}/runs"):
            command += ["--set", setting]
        start = time.perf_counter()
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **environment},
        )
        return time.perf_counter() - start


if __name__ == "__main__":
    main()

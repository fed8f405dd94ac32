"""Measure time and memory of scanning and bucketing 4,000 images.

Makes real JPEG and PNG files of many shapes in a temporary folder, then measures the
scan report in a process of its own for each repeat, so that peak memory is that of one
scan::

    python benchmarks/scan_folder.py
"""

from __future__ import annotations

import argparse
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from stiefel_lora.config import parse_config
from stiefel_lora.data.folder_report import report_on


def main() -> None:
    """Measure and print a line a size of folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[400, 4000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scan", type=Path, help="scan this folder once, and stop")
    arguments = parser.parse_args()
    if arguments.scan:
        scan_once(arguments.scan)
        return
    print(f"{platform.machine()}, Python {platform.python_version()}")
    for count in arguments.images:
        measure(count, arguments.repeats)


def measure(count: int, repeats: int) -> None:
    """Median, lowest and highest of ``repeats`` scans of ``count`` images."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_images(folder, count)
        size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
        command = [sys.executable, __file__, "--scan", name]
        found = [
            [float(number) for number in run.stdout.split()]
            for run in (
                subprocess.run(command, capture_output=True, text=True, check=True)
                for _ in range(repeats)
            )
        ]
    seconds, memory = ([run[i] for run in found] for i in (0, 1))
    print(
        f"{count} images ({size:.0f} MB), {int(found[0][2])} buckets: "
        f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} .. "
        f"{max(seconds):.2f}), peak memory of the process "
        f"{statistics.median(memory):.0f} MB, "
        f"{statistics.median(run[3] for run in found):.1f} MB more than before the scan"
    )


def scan_once(folder: Path) -> None:
    """Print seconds, peak MB, buckets and how many MB the scan added."""
    config = parse_config({"concepts": str(folder), "resolution": 128})
    before = peak()
    began = time.perf_counter()
    report = report_on(config)
    seconds = time.perf_counter() - began
    print(seconds, peak(), len(report.buckets), peak() - before)


def peak() -> float:
    """Peak memory of this process in MB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def make_images(folder: Path, count: int) -> None:
    """Smooth noise in many shapes, JPEG and PNG by turns."""
    chance = np.random.default_rng(0)
    shapes = random.Random(0)
    for number in range(count):
        width, height = shapes.randrange(150, 450), shapes.randrange(150, 450)
        small = chance.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((width, height))
        path = folder / f"{number:05d}.{'jpg' if number % 2 else 'png'}"
        image.save(path, compress_level=1)
        path.with_suffix(".txt").write_text(f"image {number}, red, small")


if __name__ == "__main__":
    main()

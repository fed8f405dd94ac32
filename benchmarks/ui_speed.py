"""Measure the start-up of the GUI, the drawing of 700 blocks x 1,000 events, samples.

    python benchmarks/ui_speed.py

Start-up: a fresh process each time, from its start to the first window that has been
drawn and answers; wall and processor time. Drawing: the events of a run are written as
a training writes them, then read and drawn as the window does. Samples: 40 rounds of
six images with 1,024 pixels are opened, then another round arrives; the longest time
in which the window does not answer, wall time. Without a screen
(offscreen), so the time of a graphics driver is not in it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

START = """
import time
from stiefel_lora.config.presets import find_config
from stiefel_lora.ui.controllers.memory import Memory
from stiefel_lora.ui.views.app import make_application
from stiefel_lora.ui.views.window import MainWindow
app = make_application()
window = MainWindow(Memory())
window.restore()
window.open_file(find_config("sdxl_stiefel_lora"))
window.show()
app.processEvents()
window.grab()
print(time.time(), time.process_time())
"""


def start_up(times: int) -> tuple[list[float], list[float]]:
    """Wall and processor seconds of some starts; the first one warms the disk up."""
    wall, processor = [], []
    for _ in range(times + 1):
        began = time.time()
        done = subprocess.run(
            [sys.executable, "-c", START], capture_output=True, text=True, check=True
        )
        ready, used = map(float, done.stdout.split())
        wall.append(ready - began)
        processor.append(used)
    return wall[1:], processor[1:]


def write_events(path: Path, blocks: int, events: int) -> None:
    """Rank and step events of a long run."""
    from stiefel_lora.runs.events import JsonlSink

    sink = JsonlSink(path)
    names = [f"up_blocks.{i // 100}/attentions.{i % 100}.to_q" for i in range(blocks)]
    sink.event("start", 0, {"steps": events, "rank": 16})
    for step in range(1, events + 1):
        sink.scalars("train", step, {"loss/train": 1 / step, "loss/train_smooth": 0.1})
        values = {}
        for i, name in enumerate(names):
            values[f"effective_rank.{name}"] = 8 + (i * step) % 97 / 13
            values[f"stable_rank.{name}"] = 3 + (i + step) % 31 / 7
            values[f"orthogonality.{name}"] = 1.5e-6
        sink.scalars("ranks", step, values)
    sink.close()


def timed(action: Callable[[], object]) -> float:
    """Milliseconds of processor time of this process."""
    began = time.process_time()
    action()
    return (time.process_time() - began) * 1e3


def draw(blocks: int, events: int) -> dict[str, float]:
    """Measure the GUI's operations on a long run in milliseconds."""
    from stiefel_lora.ui.controllers.run_record import RunRecord
    from stiefel_lora.ui.views.app import make_application
    from stiefel_lora.ui.views.plots import Plots

    app = make_application()
    plots = Plots()
    for widget in (plots.curves, plots.heat_map):
        widget.resize(700, 500)
        widget.show()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_events(root / "events.jsonl", blocks, events)
        megabytes = (root / "events.jsonl").stat().st_size / 1e6
        record = RunRecord(root)
        updates = []
        while not updates or record.behind:
            updates.append(timed(record.look))

    def redraw(step: int) -> None:
        values = {f"effective_rank.{name}": step % 16 for name in record.ranks.blocks}
        record.ranks.add(step, values)
        plots.heat_map.show_table(record.ranks)
        plots.curves.show_record(record)
        app.processEvents()
        plots.heat_map.grab()
        plots.curves.grab()

    redraw(events + 1)
    frames = [
        timed(lambda step=s: redraw(step)) for s in range(events + 2, events + 32)
    ]
    points = [
        timed(lambda i=i: plots.heat_map.describe(i, i % blocks)) for i in range(50)
    ]
    return {
        "size of events.jsonl, MB": megabytes,
        "read all of it, ms": sum(updates),
        "longest update, ms": max(updates),
        "redraw with a new column, ms (median)": statistics.median(frames),
        "redraw with a new column, ms (longest)": max(frames),
        "numbers of a block under the pointer, ms": statistics.median(points),
    }


def samples(rounds: int) -> dict[str, float]:
    """Measure the longest pauses of the window while sample images are shown, in ms."""
    from stiefel_lora.ui.controllers.run_record import RunRecord, SampleRound
    from stiefel_lora.ui.views.app import make_application
    from stiefel_lora.ui.views.gallery import Gallery

    app = make_application()
    gallery = Gallery()
    gallery.resize(900, 500)
    gallery.show()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        images = _write_images(root, rounds + 1)
        record = RunRecord(root)
        record.config = {"samples": [{"prompt": f"prompt {i}"} for i in range(6)]}
        record.rounds = [SampleRound(n, images[n]) for n in range(rounds)]
        opened = _longest_pause(app, lambda: gallery.show_record(record))
        record.rounds.append(SampleRound(rounds, images[rounds]))
        added = _longest_pause(app, lambda: gallery.show_record(record))
        getattr(gallery, "finish", lambda: None)()
    return {
        f"open {rounds} rounds of samples, longest pause, ms": opened,
        "another round of samples, longest pause, ms": added,
    }


def _write_images(root: Path, rounds: int) -> list[tuple[Path, ...]]:
    """Write six images of 1,024 pixels, and links to them for every round."""
    import numpy as np
    from PIL import Image

    made = []
    for number in range(6):
        coarse = np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8)
        made.append(root / f"image-{number}.png")
        Image.fromarray(coarse).resize((1024, 1024)).save(made[-1])
    names = [[root / f"step-{n}-{i}.png" for i in range(6)] for n in range(rounds)]
    for row in names:
        for image, path in zip(made, row, strict=True):
            path.hardlink_to(image)
    return [tuple(row) for row in names]


def _longest_pause(app: object, action: Callable[[], object]) -> float:
    """Longest time in ms without processing events, until 2 s after ``action``."""
    from PySide6.QtWidgets import QApplication

    assert isinstance(app, QApplication)
    last, longest = time.perf_counter(), 0.0
    action()
    ends = time.perf_counter() + 2
    while time.perf_counter() < ends:
        app.processEvents()
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
        time.sleep(0.001)
    return longest * 1e3


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=700)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    import PySide6

    with tempfile.TemporaryDirectory() as home:
        os.environ["STIEFEL_LORA_UI"] = home
        os.environ["STIEFEL_LORA_QUEUE"] = f"{home}/queue"
        wall, processor = start_up(arguments.starts)
        drawing = draw(arguments.blocks, arguments.events)
        drawing |= samples(arguments.rounds)
    found = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "PySide6": PySide6.__version__,
        "start-up, s of wall time": sorted(round(value, 2) for value in wall),
        "start-up, s of processor time": sorted(round(v, 2) for v in processor),
        **{name: round(value, 2) for name, value in drawing.items()},
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

"""Measure the drawing of a heat map of 700 blocks x 1,000 measurements in a browser.

    python benchmarks/web_redraw.py

Needs the extra web, selenium, chromium and chromedriver. The events of a run are
written as a training writes them, and ``stiefel-lora web`` serves them to Chromium
without a screen and without a GPU. Measured in the page with
performance.now(), each time until a pixel could be read back: a redraw of the whole
canvas (as after a change of its size), and a new column with the redraw that follows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ui_speed import write_events

_PORT = 7876
_MEASURE = """
const plot = document.querySelector(".sl-run-map .sl-plot");
const view = getElement(Number(plot.id.slice(1)));
const pen = plot.querySelector("canvas").getContext("2d");
const timed = action => {
  const start = performance.now();
  action();
  view.draw();
  pen.getImageData(0, 0, 1, 1);
  return performance.now() - start;
};
const column = btoa(String.fromCharCode(...new Uint8Array(view.rows).fill(128)));
const redraws = [], columns = [];
for (let turn = 0; turn < 40; turn++) redraws.push(timed(() => {}));
for (let turn = 0; turn < 40; turn++)
  columns.push(timed(() => view.append({labels: view.labels, data: column})));
return {redraws, columns, size: [plot.clientWidth, plot.clientHeight]};
"""


def open_browser() -> Any:
    """Start Chromium without a screen."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium-browser"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    options.add_argument("--window-size=1440,900")
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    return webdriver.Chrome(options=options, service=service)


def measure(blocks: int, events: int, folder: Path) -> dict[str, Any]:
    """Serve a run and measure its heat map in milliseconds."""
    run = folder / "runs" / "measured"
    run.mkdir(parents=True)
    write_events(run / "events.jsonl", blocks, events)
    environment = {
        **os.environ,
        "STIEFEL_LORA_UI": str(folder / "home"),
        "STIEFEL_LORA_QUEUE": str(folder / "home" / "queue"),
    }
    command = [sys.executable, "-m", "stiefel_lora", "web", "--port", str(_PORT)]
    server = subprocess.Popen(
        [*command, "--runs", str(run.parent)], env=environment, cwd=folder
    )
    browser = open_browser()
    try:
        _open(browser)
        columns = "return Number(document.querySelector('.sl-run-map .sl-plot')"
        while browser.execute_script(f"{columns}.dataset.columns || 0)") < events:
            time.sleep(0.5)
        time.sleep(2)
        found = browser.execute_script(_MEASURE)
    finally:
        browser.quit()
        server.terminate()
        server.wait(30)
    return found


def _open(browser: Any) -> None:
    from selenium.common.exceptions import WebDriverException

    until = time.monotonic() + 120
    while True:
        try:
            browser.get(f"http://127.0.0.1:{_PORT}/run")
            return
        except WebDriverException:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def main() -> None:
    """Measure and print the times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--blocks", type=int, default=700)
    parser.add_argument("--events", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.blocks, arguments.events, Path(folder))
    print(
        json.dumps(
            {
                "machine": f"{platform.machine()}, {os.cpu_count()} cores",
                "load average": os.getloadavg()[0],
                "size of the heat map, pixels": found["size"],
                "redraw, ms (median)": statistics.median(found["redraws"]),
                "redraw, ms (longest)": max(found["redraws"]),
                "new column, ms (median)": statistics.median(found["columns"]),
                "new column, ms (longest)": max(found["columns"]),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()

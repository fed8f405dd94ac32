"""Measure the start of the server until a first and a usable page.

    python benchmarks/web_start.py
    python benchmarks/web_start.py --starts 9

Needs the extra web; selenium, chromium and chromedriver for the usable page. From the
start of ``stiefel-lora web`` with an empty home, each time in seconds: until ``GET /``
is answered with 200, and until a browser that is open already shows a setting that can
be changed and is connected. The first start compiles the modules and is not counted.
For the goal of two seconds, the machine must have two idle cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from web_redraw import open_browser

_PORT = 7877
_PATIENCE_SECONDS = 120.0
_USABLE = """
const field = document.querySelector("[data-key] input");
return !!field && field.getClientRects().length > 0
  && window.socket?.connected === true;
"""


@contextlib.contextmanager
def started(folder: Path) -> Iterator[tuple[psutil.Popen, float]]:
    """Start the server with an empty home. Yield it and the time of its start."""
    # As users start it: the modules are compiled once.
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    places = {
        "STIEFEL_LORA_UI": str(folder / "home"),
        "STIEFEL_LORA_QUEUE": str(folder / "home" / "queue"),
    }
    command = [sys.executable, "-m", "stiefel_lora", "web", "--port", str(_PORT)]
    began = time.monotonic()
    server = psutil.Popen(
        command, env={**kept, **places}, cwd=folder, stdout=subprocess.DEVNULL
    )
    try:
        yield server, began
    finally:
        server.kill()
        server.wait()


def first_answer() -> tuple[float, float]:
    """Wall and processor seconds until the first answer with 200."""
    with (
        tempfile.TemporaryDirectory() as folder,
        started(Path(folder)) as (server, began),
    ):
        while time.monotonic() - began < _PATIENCE_SECONDS:
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"http://127.0.0.1:{_PORT}/") as answer:
                    assert answer.status == 200
                    answer.read()
                return time.monotonic() - began, sum(server.cpu_times()[:2])
            time.sleep(0.01)
    raise SystemExit("the server does not answer")


def usable_page(browser: Any) -> float:
    """Wall seconds until an open browser shows a page that can be used."""
    from selenium.common.exceptions import WebDriverException

    with (
        tempfile.TemporaryDirectory() as folder,
        started(Path(folder)) as (_, began),
    ):
        loaded = False
        while time.monotonic() - began < _PATIENCE_SECONDS:
            with contextlib.suppress(WebDriverException):
                if not loaded:
                    browser.get(f"http://127.0.0.1:{_PORT}/")
                    loaded = True
                if browser.execute_script(_USABLE):
                    found = time.monotonic() - began
                    browser.get("about:blank")
                    return found
            time.sleep(0.01)
    raise SystemExit("the page cannot be used")


def main() -> None:
    """Measure and print the times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--starts", type=int, default=5)
    starts = parser.parse_args().starts
    first_answer()
    answers = [first_answer() for _ in range(starts)]
    found: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load average": os.getloadavg()[0],
        "first page, s": [round(wall, 2) for wall, _ in answers],
        "first page, s (median)": round(statistics.median(w for w, _ in answers), 2),
        "processor, s (median)": round(statistics.median(c for _, c in answers), 2),
    }
    if shutil.which("chromedriver"):
        browser = open_browser()
        try:
            usable_page(browser)
            pages = [round(usable_page(browser), 2) for _ in range(starts)]
        finally:
            browser.quit()
        found["usable page, s"] = pages
        found["usable page, s (median)"] = round(statistics.median(pages), 2)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

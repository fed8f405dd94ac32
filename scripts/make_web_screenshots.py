"""Take screenshots of every tab in the browser, in both themes and two sizes.

    python scripts/make_web_screenshots.py RUN --into FOLDER

RUN is a run folder. The Run tab shows it, and the other tabs show its settings. Needs
the extra web, selenium, chromium and chromedriver.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

THEMES = ("light", "dark")
SIZES = {"": (1440, 900), "_phone": (390, 844)}
TABS = (
    "general",
    "data",
    "training",
    "lora",
    "optimizer",
    "sampling",
    "queue",
    "run",
    "lora-files",
)
# Seconds until a page has loaded its images and drawn its plots.
_SETTLE = 4.0
_QUALITY = 80


def main() -> int:
    """Take screenshots of all tabs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--tabs", nargs="+", default=TABS, choices=TABS)
    arguments = parser.parse_args()
    arguments.into.mkdir(parents=True, exist_ok=True)
    run = arguments.run.resolve()
    for theme in THEMES:
        with tempfile.TemporaryDirectory() as folder:
            server, url = _serve(run, theme, Path(folder))
            try:
                for ending, size in SIZES.items():
                    target = arguments.into / f"web_{{}}_{theme}{ending}.webp"
                    _draw(url, size, arguments.tabs, str(target))
            finally:
                server.terminate()
                server.wait(30)
    return 0


def _serve(run: Path, theme: str, home: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start a server that shows a run."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    state = {"theme": theme, "run": str(run), "first": False}
    (home / "web.json").write_text(json.dumps(state), encoding="utf-8")
    environment = {
        **os.environ,
        "STIEFEL_LORA_UI": str(home),
        "STIEFEL_LORA_QUEUE": str(home / "queue"),
    }
    command = [sys.executable, "-m", "stiefel_lora", "web", str(run / "config.json")]
    server = subprocess.Popen(
        [*command, "--port", str(port), "--runs", str(run.parent)],
        env=environment,
        cwd=home,
    )
    return server, f"http://127.0.0.1:{port}/"


def _draw(url: str, size: tuple[int, int], tabs: list[str], target: str) -> None:
    """Save the visible part of each tab."""
    browser = _open(size)
    try:
        _wait(browser, url)
        for tab in tabs:
            browser.get(url + ("" if tab == TABS[0] else tab))
            time.sleep(_SETTLE)
            shown = Image.open(io.BytesIO(browser.get_screenshot_as_png()))
            shown.convert("RGB").save(
                target.format(tab.replace("-", "_")), quality=_QUALITY, method=6
            )
    finally:
        browser.quit()


def _open(size: tuple[int, int]) -> Any:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium-browser"
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(argument)
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    browser = webdriver.Chrome(options=options, service=service)
    screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1}
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {**screen, "mobile": size[0] < 600}
    )
    return browser


def _wait(browser: Any, url: str) -> None:
    """Wait until the server has started."""
    from selenium.common.exceptions import WebDriverException

    until = time.monotonic() + 120
    while True:
        try:
            browser.get(url)
            return
        except WebDriverException:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())

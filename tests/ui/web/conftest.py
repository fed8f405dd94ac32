"""A server process with its home, and Chromium without a screen."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.web_server import WebServer

NO_BROWSER = "chromium and chromedriver are not installed"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebServer]:
    """A started server for one test: ``url``, ``kill()``, ``start()``, ``home``."""
    found = WebServer(tmp_path)
    try:
        yield found.start()
    finally:
        found.stop()


@pytest.fixture
def new_browser(tmp_path: Path) -> Iterator[Callable[..., object]]:
    """A function that opens a Chromium of a size with a new profile."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip(NO_BROWSER)
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed"
    )
    opened = []

    def open_one(width: int = 1440, height: int = 900) -> object:
        options = webdriver.ChromeOptions()
        options.binary_location = program
        profile = tmp_path / f"profile-{len(opened)}"
        downloads = tmp_path / "downloads"
        for argument in (
            "--headless=new",
            # Chromium refuses to run as root with its sandbox, as in containers.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        options.add_experimental_option(
            "prefs", {"download.default_directory": str(downloads)}
        )
        service = webdriver.ChromeService(executable_path=driver)
        opened.append(webdriver.Chrome(options=options, service=service))
        return opened[-1]

    try:
        yield open_one
    finally:
        for found in opened:
            found.quit()


@pytest.fixture
def browser(new_browser: Callable[..., object]) -> object:
    """A Chromium of 1440 x 900."""
    return new_browser()

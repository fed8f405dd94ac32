"""Folders that a browser can name, but that the server does not show."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from helpers.browser_page import BrowserPage
from helpers.web_server import WebServer

SECRET = "the caption of another user"


@pytest.mark.slow
def test_images_and_captions_of_other_folders_are_not_shown(
    tmp_path: Path, new_browser: Callable[..., object]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    Image.new("RGB", (64, 64), "teal").save(outside / "cat.png")
    (outside / "cat.txt").write_text(SECRET)
    Image.new("RGB", (64, 64), "orange").save(outside / "dog.png")
    server = WebServer(tmp_path)
    server.home.mkdir()
    # A folder that a browser has set does not become one that is shown.
    state = {"data": {"concepts": [{"path": str(outside)}]}, "source": ""}
    (server.home / "web.json").write_text(json.dumps({**state, "first": False}))
    try:
        server.start()
        page = BrowserPage(new_browser(), server.url)
        page.open("data")
        page.wait(lambda: "Start the server with --data" in page.shown)
        assert SECRET not in page.browser.page_source
        assert "cat.png" not in page.shown
        # Nor is it found by the survey, which lists images without a caption.
        page.click(".q-tab", "Buckets")
        page.wait(lambda: page.find(".sl-data .q-table"))
        assert "dog.png" not in page.browser.page_source
        server.stop()
        server.arguments = ("--data", str(outside))
        server.start()
        page.open("data")
        page.wait(lambda: SECRET in page.browser.page_source)
        page.click(".q-tab", "Buckets")
        page.wait(lambda: page.find(".sl-list", "dog.png: no caption"))
    finally:
        server.stop()

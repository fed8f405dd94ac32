"""The token and pages of other sites, in a real browser."""

from __future__ import annotations

import functools
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.web_server import WebServer

TOKEN = "a-token-of-the-tests"
_CONNECTED = "return Boolean(window.did_handshake && window.socket?.connected)"
# Browsers share cookies between ports, so this page is signed in at the server, too.
_ATTACK = """<!doctype html><title>waiting</title><script>
const found = {}
function done(name, result) {
  found[name] = result
  if (Object.keys(found).length === 4) document.title = JSON.stringify(found)
}
const place = "127.0.0.1:PORT"
const path = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
const socket = new WebSocket("ws://" + place + path)
socket.onopen = () => done("websocket", "opened")
socket.onerror = () => done("websocket", "refused")
void fetch("http://" + place + "/").then(
  () => done("page", "read"), () => done("page", "refused"))
void fetch("http://" + place + "/uploads/cats/a.txt", {method: "PUT", body: "x"}).then(
  () => done("upload", "sent"), () => done("upload", "refused"))
const image = new Image()
image.onload = () => done("image", "shown")
image.onerror = () => done("image", "refused")
image.src = "http://" + place + "/favicon.ico"
</script>"""


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[WebServer]:
    found = WebServer(tmp_path, token=TOKEN)
    try:
        yield found.start()
    finally:
        found.stop()


@pytest.fixture
def other_site(tmp_path: Path, guarded: WebServer) -> Iterator[str]:
    folder = tmp_path / "site"
    folder.mkdir()
    text = _ATTACK.replace("PORT", str(guarded.port))
    (folder / "index.html").write_text(text)
    handler = functools.partial(_Quiet, directory=str(folder))
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=site.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{site.server_port}/"
    site.shutdown()
    site.server_close()
    thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Write nothing."""


def wait(found: Callable[[], Any]) -> Any:
    until = time.monotonic() + 120
    while not (value := found()):
        assert time.monotonic() < until, "nothing after two minutes"
        time.sleep(0.1)
    return value


def test_the_address_with_the_token_signs_in(
    guarded: WebServer, new_browser: Callable[..., Any]
) -> None:
    browser = new_browser()
    browser.get(guarded.url)
    assert "A token is required." in browser.page_source
    browser.get(f"{guarded.url}?token={TOKEN}")
    wait(lambda: browser.execute_script(_CONNECTED))
    assert browser.current_url == guarded.url
    # The cookie cannot be read by scripts, and is enough for the next visit.
    assert browser.execute_script("return document.cookie") == ""
    browser.refresh()
    wait(lambda: browser.execute_script(_CONNECTED))
    errors = [each["message"] for each in browser.get_log("browser")]
    assert not [text for text in errors if "Content Security Policy" in text]


@pytest.mark.slow
def test_the_form_signs_in(guarded: WebServer, new_browser: Callable[..., Any]) -> None:
    browser = new_browser(390, 844)
    browser.get(guarded.url)
    box = browser.find_element("name", "token")
    box.send_keys("wrong")
    box.submit()
    wait(lambda: "This is not the token" in browser.page_source)
    box = browser.find_element("name", "token")
    box.send_keys(TOKEN)
    box.submit()
    wait(lambda: browser.execute_script(_CONNECTED))


@pytest.mark.slow
def test_a_page_of_another_port_reaches_nothing(
    guarded: WebServer, other_site: str, new_browser: Callable[..., Any]
) -> None:
    browser = new_browser()
    browser.get(f"{guarded.url}?token={TOKEN}")
    wait(lambda: browser.execute_script(_CONNECTED))
    browser.get(other_site)
    wait(lambda: browser.title.startswith("{"))
    assert set(json.loads(browser.title).values()) == {"refused"}
    assert not list((guarded.home / "uploads").rglob("*.txt"))

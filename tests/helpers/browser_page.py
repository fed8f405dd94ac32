"""A page of the browser interface in a real browser."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ["BrowserPage"]

# Machines differ, and some are busy.
PATIENCE_SECONDS = 120.0

# Not offsetParent, which is null for elements at a fixed position: dialogs.
_FIND = """
const [selector, text] = arguments;
return [...document.querySelectorAll(selector)].find(
  found => found.getClientRects().length
    && found.textContent.trim().includes(text)) || null;
"""

# Whether an element is where it was two frames before. The mouse button goes down
# and up at one place, which is no click if the element moves in between, as dialogs do
# while they open.
_RESTS = """
const [found, done] = arguments;
const place = () => {
  const {x, y, width, height} = found.getBoundingClientRect();
  return [x, y, width, height].join();
};
const before = place();
requestAnimationFrame(() => requestAnimationFrame(
  () => done(found.isConnected && place() === before)));
"""


class BrowserPage:
    """Tabs, fields and buttons as a user sees them.

    Args:
        browser: selenium driver.
        url: address of the server.
    """

    def __init__(self, browser: Any, url: str) -> None:
        self.browser = browser
        self.url = url

    def open(self, slug: str = "") -> None:
        """Open an address and wait for the connection to the server."""
        self.browser.get(self.url + slug)
        self.wait(lambda: self.find(".sl-status, .sl-run-state"))

    def wait(self, found: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
        """Wait until a function returns something true, and return it."""
        from selenium.common.exceptions import WebDriverException

        until, last = time.monotonic() + seconds, None
        while time.monotonic() < until:
            try:
                last = found()
            # An element that was replaced in the meantime.
            except WebDriverException:
                last = None
            if last:
                return last
            time.sleep(0.1)
        raise AssertionError(f"nothing after {seconds} s: {last}\n{self.shown}")

    @property
    def shown(self) -> str:
        """Visible text of the page."""
        return self.browser.execute_script("return document.body.innerText")

    def find(self, selector: str, text: str = "") -> Any:
        """Return the first visible element with a text, or None."""
        return self.browser.execute_script(_FIND, selector, text)

    def click(self, selector: str, text: str = "") -> None:
        """Click an element once it is visible, enabled and not moving."""

        def click() -> bool:
            found = self.find(selector, text)
            if found is None or not found.is_enabled():
                return False
            if not self.browser.execute_async_script(_RESTS, found):
                return False
            found.click()
            return True

        self.wait(click)

    def press(self, label: str) -> None:
        """Press a button."""
        self.click("button", label)

    def tab(self, name: str) -> None:
        """Switch to a tab."""
        self.click(".sl-tabs .q-tab", name)

    def row(self, key: str) -> Any:
        """Return the row of a setting."""
        selector = f'[data-key="{key}"]'
        return self.wait(lambda: self.find(selector))

    def input(self, key: str) -> Any:
        """Return the input of a setting."""
        return self.row(key).find_element("css selector", "input, textarea")

    def enter(self, key: str, text: str) -> None:
        """Replace the text of a setting."""
        self.retype(self.input(key), text)

    def retype(self, box: Any, text: str) -> None:
        """Replace the text of an input."""
        from selenium.webdriver.common.keys import Keys

        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(text or Keys.BACKSPACE)

    def choose(self, selector: str, text: str) -> None:
        """Choose an entry of a drop-down list."""
        self.click(selector)
        self.click(".q-menu .q-item", text)

    @property
    def columns(self) -> int:
        """Number of columns of the heat map."""
        plot = self.find(".sl-run-map .sl-plot")
        return int(plot.get_attribute("data-columns") or 0) if plot else 0

    @property
    def errors(self) -> list[str]:
        """Errors in the console of the browser."""
        found = self.browser.get_log("browser")
        return [each["message"] for each in found if each["level"] == "SEVERE"]

"""Page of the browser interface, with an address for each tab."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nicegui import app, ui

from .frame import ALL_TABS, Frame, slug_of
from .server_check import check_of_server

if TYPE_CHECKING:
    from ..context import WebContext

__all__ = ["register"]

_STYLE = Path(__file__).with_name("style.css")
# Show the description of the focused field, and focus a field by its key.
_SCRIPT = """
<script>
document.addEventListener("focusin", event => {
  const row = event.target.closest("[data-doc]");
  const help = document.getElementById("sl-help");
  if (row && help) help.textContent = row.dataset.doc;
});
function slFocus(key, tries = 20) {
  const row = [...document.querySelectorAll("[data-key]")].find(
    found => found.dataset.key === key && found.offsetParent);
  if (!row) {
    if (tries > 0) setTimeout(() => slFocus(key, tries - 1), 100);
    return;
  }
  row.scrollIntoView({block: "center"});
  const target = row.querySelector("input, textarea, button") || row;
  target.focus();
}
</script>
"""


def register(context: WebContext) -> None:
    """Register the page.

    Args:
        context: settings, queue and folders of the server.
    """
    style = _STYLE.read_text(encoding="utf-8")
    app.on_shutdown(check_of_server(context).stop)

    def page_of(tab: str) -> Callable[[], None]:
        def page() -> None:
            ui.add_css(style)
            ui.add_head_html(_SCRIPT)
            ui.add_head_html(
                '<meta name="viewport" content="width=device-width, initial-scale=1">'
            )
            ui.colors(primary="#2f6fbf")
            Frame(context, tab)

        return page

    for tab in ALL_TABS:
        ui.page(f"/{slug_of(tab)}", title="Stiefel LoRA")(page_of(tab))
    ui.page("/", title="Stiefel LoRA")(page_of(ALL_TABS[0]))

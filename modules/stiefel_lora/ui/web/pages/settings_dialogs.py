"""Dialogs of the top bar in the browser: presets, files, differences, new training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nicegui import ui

from ...._diagnosis import gpu_gigabytes
from ....config.dump import dump_lean
from ....families.catalogue import DEFAULT, records
from ....jobs.new_config import KINDS, Proposal, propose
from ...controllers.library import entries, user_presets
from ...controllers.preset_differences import (
    HEADINGS,
    count_of_differences,
    differences,
)
from ...controllers.proposal_text import REASONS_TITLE, reasons_text
from .file_reader import FileReader
from .message_box import Message, attempt, attempt_in_thread, dialog_box

if TYPE_CHECKING:
    from .browser_session import BrowserSession

__all__ = [
    "open_differences",
    "open_file_chooser",
    "open_new_training",
    "open_presets",
    "open_save",
]

_USUAL_GB = 12
_ENDINGS = ".json,.toml,.yaml,.yml,.txt"
_OUTSIDE = (
    "This folder is not an image folder of the server. Choose one with Browse…, or "
    "start the server with --data and this folder."
)
# Characters that no system allows in file names.
_FORBIDDEN = '<>:"/\\|?*'


def open_presets(session: BrowserSession) -> None:
    """Show the list of presets with a search field."""
    with dialog_box() as dialog:
        search = ui.input(placeholder="Search presets", on_change=lambda: fill())
        search.props("outlined dense clearable autofocus debounce=150")
        search.props["aria-label"] = "Search presets"
        search.classes("w-full")
        shelf = ui.list().props("dense separator").classes("sl-list")
        search.on("keydown.enter", lambda: take_first())

    def take(path: Path) -> None:
        dialog.close()
        session.change(lambda: session.context.load_settings(path))

    def take_first() -> None:
        found = entries(search.value or "")
        if found:
            take(found[0].path)

    def fill() -> None:
        shelf.clear()
        with shelf:
            for entry in entries(search.value or ""):
                item = ui.item(on_click=lambda path=entry.path: take(path))
                with item, ui.item_section():
                    ui.item_label(f"{entry.name}  ·  {entry.group}")
                    ui.item_label(entry.summary).props("caption lines=2")

    fill()


def open_differences(session: BrowserSession) -> None:
    """Show the differences between the settings and the preset."""
    document = session.context.document
    with dialog_box() as dialog:
        title = ui.label()
        columns = [
            {"name": name, "label": name, "field": name, "align": "left"}
            for name in HEADINGS
        ]
        table = ui.table(columns=columns, rows=[], row_key="key", selection="multiple")
        table.props("dense flat wrap-cells").classes("w-full sl-list")
        with ui.row().classes("w-full justify-end"):
            reset = ui.button("Reset to preset", on_click=lambda: put_back())
            reset.props("no-caps flat")
            reset.props["title"] = (
                "Reset the selected settings to their values in the preset"
            )
            ui.button("Close", on_click=dialog.close).props("no-caps flat")

    def fill() -> None:
        found = differences(document)
        title.set_text(count_of_differences(document, len(found)))
        table.rows = [
            {
                "key": f"{place}",
                "setting": each.key,
                **dict(zip(HEADINGS, (each.label, each.before, each.now), strict=True)),
            }
            for place, each in enumerate(found)
        ]
        table.selected = []
        reset.set_enabled(bool(found))

    def put_back() -> None:
        for key in {row["setting"] for row in table.selected}:
            document.reset(key)
        fill()

    fill()


def open_save(session: BrowserSession) -> None:
    """Save the settings as a preset of the user, or download them."""
    context = session.context
    with dialog_box() as dialog:
        ui.label("Save the settings as a preset").classes("sl-title")
        name = ui.input("Name", value=str(context.document.value("run_name") or ""))
        name.props("outlined dense autofocus").classes("w-full")
        note = Message()
        with ui.row().classes("w-full justify-end"):
            ui.button("Download", on_click=lambda: download()).props("no-caps flat")
            ui.button("Cancel", on_click=dialog.close).props("no-caps flat")
            ui.button("Save", on_click=lambda: save()).props("no-caps unelevated")

    def chosen() -> str:
        text = str(name.value or "").strip().removesuffix(".json")
        bad = not text or text.startswith(".") or any(c in _FORBIDDEN for c in text)
        if bad:
            note.say("Enter a name without special characters.", "error")
        return "" if bad else text

    def save() -> None:
        text = chosen()
        if text:
            path = user_presets() / f"{text}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            if attempt(lambda: context.document.save(path)):
                dialog.close()
                ui.notify(f"Saved {path.name}.")

    def download() -> None:
        text = chosen()
        if text and attempt(context.document.config):
            content = dump_lean(context.document.config())
            ui.download.content(content, f"{text}.json", "application/json")
            dialog.close()


def open_file_chooser(session: BrowserSession) -> None:
    """Load settings from a file of the browser's machine."""
    with dialog_box() as dialog:
        ui.label("Load settings, also of other trainers").classes("sl-title")

        async def take(name: str, text: str) -> None:
            dialog.close()
            report: list[str] = []
            attempt(lambda: report.extend(session.context.import_settings(name, text)))
            if report:
                _show_report(f"Imported: {name}", "", report)

        FileReader(_ENDINGS, take)
        ui.button("Cancel", on_click=dialog.close).props("no-caps flat")


def _show_report(title: str, text: str, lines: list[str]) -> None:
    with dialog_box() as dialog:
        ui.label(title).classes("sl-title")
        if text:
            ui.label(text)
        ui.label("\n".join(lines)).classes("sl-list sl-pre")
        ui.button("Close", on_click=dialog.close).props("no-caps flat")


def _folder_input(session: BrowserSession) -> ui.input:
    def take(path: Path) -> None:
        folder.value = str(path)

    def browse() -> None:
        session.choose_folder(folder.value or "", take)

    with ui.row(wrap=False).classes("w-full items-center"):
        folder = ui.input("Folder with images").props("outlined dense")
        folder.classes("w-full")
        button = ui.button("Browse…", on_click=browse)
        button.props("outline no-caps dense padding='4px 8px'")
    return folder


def open_new_training(session: BrowserSession) -> None:
    """Ask for the images and the GPU, and propose the settings."""
    families = {record.name: record.label for record in records()}
    with dialog_box() as dialog:
        ui.label("New training").classes("sl-title")
        ui.label("The settings are chosen for your images and can be changed.")
        kind = ui.select(list(KINDS), value=KINDS[0], label="What to learn")
        folder = _folder_input(session)
        memory = ui.number(
            "GPU memory",
            value=gpu_gigabytes() or _USUAL_GB,
            min=4,
            max=1000,
            suffix="GB",
        )
        family = ui.select(families, value=DEFAULT, label="Base model")
        trigger = ui.input(
            "Trigger word", placeholder="ohwx for a subject, none for a style"
        )
        for element in (kind, memory, family, trigger):
            element.props("outlined dense stack-label").classes("w-full")
        note = Message()
        with ui.row().classes("w-full justify-end"):
            ui.button("Cancel", on_click=dialog.close).props("no-caps flat")
            ui.button("OK", on_click=lambda: accept()).props("no-caps unelevated")

    async def accept() -> None:
        path = Path(str(folder.value or "").strip())
        if path == Path():
            note.say("Choose the folder with your images.", "error")
            return
        # The number of images of other folders is not shown either.
        if not session.context.images.contains(path):
            note.say(_OUTSIDE, "error")
            return

        def make() -> Proposal:
            return propose(
                kind.value,
                path,
                vram=int(memory.value or _USUAL_GB),
                family=str(family.value),
                trigger_word=str(trigger.value or "").strip() or None,
            )

        found = await attempt_in_thread(make)
        if found is not None and attempt(
            lambda: session.context.document.begin(found.data)
        ):
            dialog.close()
            session.go_to("steps")
            with session.client:
                _show_report(
                    "New training", REASONS_TITLE, [reasons_text(found.reasons)]
                )

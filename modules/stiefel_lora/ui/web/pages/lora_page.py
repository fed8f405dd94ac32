"""LoRA files tab in the browser: inspect, resize, merge, convert and verify files."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from nicegui import background_tasks, run, ui

from ...controllers.column_labels import column_labels
from ...controllers.findings import Findings
from ...controllers.lora_files import (
    COLUMNS,
    MAX_RANK,
    SINGULAR_VALUES,
    SPECTRUM_BAR,
    SPECTRUM_HINT,
    SPELLINGS,
    LoraEntry,
    Result,
    command,
    convert_arguments,
    extract_arguments,
    inspect_arguments,
    merge_arguments,
    parse_checks,
    parse_entry,
    resize_arguments,
    usable_output,
    verify_arguments,
)
from .caption_buttons import tool_button
from .extract_box import open_extract
from .matrix_plot import INFERNO, MatrixPlot
from .message_box import Message, complain

if TYPE_CHECKING:
    from .browser_session import BrowserSession

__all__ = ["LoraPage"]

_HINT = (
    "Add LoRA files of your runs. You can resize, convert or verify the selected file, "
    "or merge all files with their weights. Results are written to the folder of the "
    "run. Extract creates a LoRA from two checkpoints."
)
_LABELS = 9
_FOLDER = "peft-folder"


class LoraPage:
    """Table of LoRA files, their spectrum, and buttons for commands.

    Args:
        session: state of the page.
    """

    def __init__(self, session: BrowserSession) -> None:
        self.session = session
        self.entries: list[LoraEntry] = []
        self._weights: dict[str, float] = {}
        self._busy = False
        ui.label(_HINT).classes("sl-quiet")
        self._build_buttons()
        self.state = ui.label().classes("sl-pre")
        self.notes = Message()
        columns = [
            {"name": name, "label": name, "field": name, "align": "left"}
            for name in COLUMNS
        ]
        self.table = ui.table(
            columns=columns,
            rows=[],
            row_key="path",
            selection="single",
            on_select=lambda _: self._selected(),
        )
        self.table.props("dense flat bordered").classes("w-full")
        self.table.props["no-data-label"] = "No files yet."
        with ui.element("div").classes("sl-section sl-spectrum"):
            ui.label(SINGULAR_VALUES).classes("sl-title")
            self.plot = MatrixPlot(
                SINGULAR_VALUES,
                ("Layer", "Singular value"),
                INFERNO,
                SPECTRUM_BAR,
                ready=self._draw,
                hovered=self._describe,
            )
            self.hint = ui.label(SPECTRUM_HINT).classes("sl-quiet sl-caption sl-hint")
        self._enable()

    def refresh(self, findings: Findings) -> None:
        """List the LoRA files of the runs."""
        self._list_files()

    # Files ---------------------------------------------------------------------------

    def _list_files(self) -> None:
        async def read() -> None:
            # Folders with models can be large.
            files = await run.io_bound(self.session.context.loras.files)
            if files is not None and files != self.add.options:
                self.add.set_options(files)

        background_tasks.create(read(), context=self.session.client)

    async def _add(self, path: str | None) -> None:
        if not path or self._busy:
            return
        self.add.value = None
        known = {str(entry.path) for entry in self.entries}
        if path in known or path not in self.add.options:
            return
        self.state.set_text(f"Inspecting {Path(path).name} …")
        text = await self._run(inspect_arguments(Path(path)))
        self.state.set_text("")
        if text is not None:
            self.entries.append(parse_entry(text))
            self._weights[path] = 1.0
            self._fill(path)

    def _fill(self, chosen: str) -> None:
        self.table.rows = [
            {
                "path": str(entry.path),
                **dict(
                    zip(
                        COLUMNS,
                        (
                            entry.path.name,
                            f"{self._weights[str(entry.path)]:g}",
                            *entry.facts,
                        ),
                        strict=True,
                    )
                ),
            }
            for entry in self.entries
        ]
        rows = [row for row in self.table.rows if row["path"] == chosen]
        self.table.selected = rows
        self._selected()

    def _remove(self) -> None:
        entry = self._chosen
        if entry is not None:
            self.entries.remove(entry)
            self._fill("")

    @property
    def _chosen(self) -> LoraEntry | None:
        rows = self.table.selected
        path = rows[0]["path"] if rows else None
        return next((e for e in self.entries if str(e.path) == path), None)

    def _selected(self) -> None:
        entry = self._chosen
        notes = "\n".join(entry.notes) if entry else ""
        self.notes.say(notes, "error" if entry and entry.not_finite else "remark")
        self.weight.value = self._weights[str(entry.path)] if entry else None
        self._draw()
        self._enable()

    def _weighted(self) -> None:
        entry, value = self._chosen, self.weight.value
        if entry is None or value is None:
            return
        if self._weights[str(entry.path)] != float(value):
            self._weights[str(entry.path)] = float(value)
            self._fill(str(entry.path))

    def _draw(self) -> None:
        entry = self._chosen
        if not self.plot.is_ready:
            return
        if entry is None:
            self.plot.load(np.zeros((0, 0), dtype=np.uint8), (), ())
            return
        # NaN is drawn like zero; its text names it.
        levels = np.nan_to_num(entry.levels)
        columns = np.rint(255 * levels).astype(np.uint8)
        names = [str(place + 1) for place in range(len(columns))]
        self.plot.load(columns, entry.sections, column_labels(names, _LABELS))

    def _describe(self, column: int, row: int) -> None:
        entry = self._chosen
        text = entry.describe(column, row) if entry and column >= 0 else ""
        self.hint.set_text(text or SPECTRUM_HINT)

    # Commands ------------------------------------------------------------------------

    async def _verify(self) -> None:
        entry = self._chosen
        if entry is not None:
            self.state.set_text(f"Verifying {entry.path.name} …")
            text = await self._run(verify_arguments(entry.path))
            self.state.set_text("\n".join(parse_checks(text)) if text else "")

    async def _resize(self) -> None:
        entry = self._chosen
        if entry is not None:
            rank = int(self.rank.value or 1)
            output = self._output(entry.path, f"rank{rank}")
            await self._make(resize_arguments(entry.path, rank, output), output)

    async def _convert(self) -> None:
        entry, to = self._chosen, str(self.spelling.value)
        if entry is not None:
            output = self._output(entry.path, to, folder=to == _FOLDER)
            await self._make(convert_arguments(entry.path, to, output), output)

    async def _merge(self, *, small: bool) -> None:
        if len(self.entries) < 2:
            return
        files = [(e.path, self._weights[str(e.path)]) for e in self.entries]
        rank = int(self.rank.value or 1) if small else None
        first = self._chosen or self.entries[0]
        output = self._output(first.path, "merged")
        await self._make(merge_arguments(files, rank, output), output)

    async def _choose_checkpoints(self) -> None:
        found = await run.io_bound(self.session.context.loras.checkpoints)
        if found is not None:
            open_extract(found, self._start_extract)

    def _start_extract(self, base: Path, tuned: Path) -> None:
        # The dialog is deleted before the command has ended.
        work = self._extract(base, tuned)
        background_tasks.create(work, context=self.session.client)

    async def _extract(self, base: Path, tuned: Path) -> None:
        rank = int(self.rank.value or 1)
        output = self._output(tuned, f"extracted-rank{rank}")
        await self._make(extract_arguments(base, tuned, rank, output), output)

    def _output(self, path: Path, ending: str, *, folder: bool = False) -> Path:
        return self.session.context.loras.output(path, ending, folder=folder)

    async def _make(self, arguments: list[str], output: Path) -> None:
        self.state.set_text(f"Writing {output.name} …")
        text = await self._run(arguments)
        if text is None:
            self.state.set_text("")
            return
        result = Result.parse(text)
        lines = [f"Saved {output}. {result.summary()}", *result.remarks]
        self.state.set_text("\n".join([*lines, *result.checks]))
        self._list_files()
        self.saved.clear()
        with self.saved:
            for name, url in self.session.context.loras.downloads(output).items():
                link = ui.link(f"Download {name}", url).classes("sl-file")
                link.props["download"] = name

    async def _run(self, arguments: list[str]) -> str | None:
        """Run a command. Return its output, or None after an error, which is shown."""
        self._busy = True
        self._enable()
        try:
            done = await run.io_bound(
                subprocess.run,
                command(*arguments),
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            self._busy = False
            self._enable()
        if done is None:
            return None
        if usable_output(arguments[0], done.returncode, done.stdout):
            return done.stdout
        complain(done.stderr.strip() or "The process was terminated.")
        return None

    def _enable(self) -> None:
        entry = self._chosen
        free = not self._busy
        whole = free and entry is not None and not entry.not_finite
        self.add.set_enabled(free)
        self.remove.set_enabled(free and entry is not None)
        self.weight.set_enabled(entry is not None)
        for button in (self.resize, self.convert, self.verify):
            button.set_enabled(whole)
        many = len(self.entries) > 1 and not any(e.not_finite for e in self.entries)
        for button in (self.merge, self.merge_small):
            button.set_enabled(free and many)
        self.extract.set_enabled(free)

    def _build_buttons(self) -> None:
        with ui.row().classes("w-full gap-2 items-center q-my-sm"):
            self.add = ui.select(
                {}, label="Add files", on_change=lambda e: self._add(e.value)
            )
            self.add.props("outlined dense options-dense").classes("sl-runs")
            self.remove = tool_button(
                "Remove", "Remove the selected file from the list"
            )
            self.remove.on_click(self._remove)
            self.verify = tool_button(
                "Verify", "Check whether other programs can load the selected file"
            )
            self.verify.on_click(self._verify)
        with ui.row().classes("w-full gap-2 items-center"):
            self.rank = ui.number("Rank", value=16, min=1, max=MAX_RANK, precision=0)
            self.rank.props("outlined dense").classes("sl-unit")
            self.resize = tool_button("Resize", "Reduce the selected LoRA to this rank")
            self.resize.on_click(self._resize)
            self.spelling = ui.select(list(SPELLINGS), value=SPELLINGS[0])
            self.spelling.props("outlined dense options-dense").classes("sl-unit")
            self.spelling.props["aria-label"] = "Key format"
            self.convert = tool_button(
                "Convert", "Convert the selected file to this key format"
            )
            self.convert.on_click(self._convert)
            self.weight = ui.number("Weight", on_change=self._weighted)
            self.weight.props("outlined dense step=0.1 debounce=400")
            self.weight.classes("sl-unit")
            self.merge = tool_button(
                "Merge", "Merge all files as a weighted sum without reducing the rank"
            )
            self.merge.on_click(lambda: self._merge(small=False))
            self.merge_small = tool_button(
                "Merge to rank",
                "Merge all files as a weighted sum and reduce the result to this rank",
            )
            self.merge_small.on_click(lambda: self._merge(small=True))
            self.extract = tool_button(
                "Extract…",
                "Create a LoRA of this rank from the difference between two "
                "checkpoints",
            )
            self.extract.on_click(self._choose_checkpoints)
        self.saved = ui.row().classes("gap-3")
        self._list_files()

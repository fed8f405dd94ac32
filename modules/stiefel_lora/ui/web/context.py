"""Settings, queue and folders of the server, which all pages and browsers share."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..._exceptions import ConfigError, StiefelLoraError
from ...config import SettingsError, Violation
from ...config.custom_code import check_custom_code
from ...config.presets import list_presets
from ...config.reading import read_json
from ...jobs import Job
from ...runs.run_folder import RunFolder
from ..controllers.document import Document
from ..controllers.findings import Findings, examine
from ..controllers.library import entries
from ..controllers.memory import Memory, home
from ..controllers.trainings import Trainings
from .caption_process import CaptionProcess
from .lora_places import LoraPlaces
from .run_book import RunBook
from .served_images import DatasetRoots

__all__ = ["STATE_FILE", "WebContext", "uploads_folder"]

STATE_FILE = "web.json"
"""File of the state, beside that of the window."""

# Of the name of an uploaded file, which is part of messages.
_SIGNS = re.compile(r"[^\w.-]|^\.+|^$")
_LONGEST = 100


def uploads_folder() -> Path:
    """Return the folder in which each uploaded dataset has a folder."""
    return home() / "uploads"


class WebContext:
    """State of a server. There is one for all browsers.

    Args:
        datasets: folders whose images may be shown.
        runs: folders whose subfolders are listed as runs, in addition to the queue.
        models: folders with models and LoRA files that browsers may use.
        allow_custom_code: whether optimizer classes and plugins can be set.

    Raises:
        OutputError: If the queue folder is not writable.
    """

    def __init__(
        self,
        datasets: Sequence[Path] = (),
        runs: Sequence[Path] = (),
        models: Sequence[Path] = (),
        *,
        allow_custom_code: bool = False,
    ) -> None:
        self.document = Document()
        self.memory = Memory.load(STATE_FILE)
        self.trainings = Trainings()
        self.uploads = uploads_folder()
        self.images = DatasetRoots([*datasets, self.uploads])
        self.models = DatasetRoots(models)
        self.runs = RunBook(self.trainings, runs)
        self.loras = LoraPlaces(self.runs, self.models, home() / "lora-files")
        self.captioning = CaptionProcess()
        self.allow_custom_code = allow_custom_code
        self._watchers: list[Callable[[], None]] = []
        self._findings: Findings | None = None
        self._unsaved = False
        self.save_problem = ""
        """Message if the state could not be saved."""

        self.queue_problem = ""
        """Message if the queue could not be read."""

        self.document.subscribe(self._document_changed)

    def restore(self) -> None:
        """Restore the settings of the last session."""
        source = Path(self.memory.source) if self.memory.source else None
        try:
            self.document.restore(self.memory.data, source)
        except StiefelLoraError:
            # The preset was removed or changed; keep the settings themselves.
            self.document.restore(self.memory.data, None)
        self._unsaved = False

    # Settings ------------------------------------------------------------------------

    def findings(self) -> Findings:
        """Return the errors and warnings of the settings."""
        if self._findings is None:
            self._findings = examine(self.document.data)
        return self._findings

    def changed(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call a function after every change of the settings, by any browser.

        Returns:
            A function that removes ``callback``.
        """
        self._watchers.append(callback)

        def remove() -> None:
            if callback in self._watchers:
                self._watchers.remove(callback)

        return remove

    def load_settings(self, path: Path) -> None:
        """Load a preset, or the settings of a run.

        Raises:
            StiefelLoraError: If the file is neither, or is invalid.
        """
        known = {entry.path for entry in entries()}
        known |= {RunFolder(folder).config_file for folder in self.runs.folders()}
        if path not in known:
            # The message about another file would contain parts of it.
            raise ConfigError(f"{path.name} is not a preset. Choose one of the list.")
        self.document.load(path)

    def take_settings(self, data: Mapping[str, Any]) -> None:
        """Start from uploaded settings. Relative paths are relative to the uploads.

        Raises:
            StiefelLoraError: If they are invalid, or extend a file.
        """
        base = data.get("extends")
        if base is not None and base not in [preset.name for preset in list_presets()]:
            raise SettingsError(
                [Violation("extends", "must be the name of a preset", "Remove it")]
            )
        self.document.take_over(dict(data), self.uploads)

    def import_settings(self, name: str, text: str) -> list[str]:
        """Start from an uploaded file with settings, also of another trainer.

        Args:
            name: name of the file.
            text: content of the file.

        Returns:
            The report of an import. Empty for settings of this program.

        Raises:
            StiefelLoraError: If the settings are invalid.
        """
        with tempfile.TemporaryDirectory(prefix="stiefel_lora_") as folder:
            path = Path(folder, _SIGNS.sub("_", Path(name).name)[-_LONGEST:])
            path.write_text(text, encoding="utf-8", newline="\n")
            try:
                return self._import(path)
            except ConfigError as error:
                # The path of the copy means nothing to the user.
                message = str(error).replace(f"{folder}{os.sep}", "")
                raise ConfigError(message) from error

    def _import(self, path: Path) -> list[str]:
        # The first page does not need the rules for other trainers.
        from ...config.importing import (
            import_file,
            is_of_other_program,
            without_other_files,
        )

        if not is_of_other_program(path):
            self.take_settings(read_json(path))
            return []
        with without_other_files():
            found = import_file(path)
        self.take_settings(found.data)
        return found.report.lines()

    def start(self) -> Job:
        """Queue a training with the current settings and start it.

        Raises:
            StiefelLoraError: If the settings are invalid, or the queue is not usable.
        """
        source = str(self.document.source or "the browser")
        config = self.document.config()
        # Once more: whatever the pages allow, this is where a process is started.
        check_custom_code(config.model_dump(mode="json", by_alias=True))
        return self.trainings.add(config, source)

    # State ---------------------------------------------------------------------------

    def remember(self) -> None:
        """Save the state within a second."""
        self._unsaved = True

    def save(self) -> None:
        """Save the state if it has changed."""
        if not self._unsaved:
            return
        self._unsaved = False
        self.memory.data = self.document.data
        self.memory.source = str(self.document.source or "")
        failed = self.memory.save(STATE_FILE)
        # Tried again until it is saved.
        self._unsaved = bool(failed)
        self.save_problem = f"The settings are not saved. {failed}" if failed else ""

    def _document_changed(self) -> None:
        self._findings = None
        self._unsaved = True
        for watcher in list(self._watchers):
            watcher()

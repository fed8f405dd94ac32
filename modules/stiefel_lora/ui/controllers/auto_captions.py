"""The command that writes captions, and its output."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import sys
from pathlib import Path

from ..._install import install_command
from ..._wording import counted
from ...config.caption_extension import TEXT
from ...data.caption_files import contents, record_changes
from .bulk_edit import EditableCaptions
from .caption_journal import journal

__all__ = [
    "EXAMPLE",
    "LOADING",
    "STOPPED",
    "CaptionRequest",
    "WrittenCaptions",
    "missing_tagger",
    "progress_in",
    "result_of",
]

EXAMPLE = "SmilingWolf/wd-vit-tagger-v3"
LOADING = "Loading the model…"
STOPPED = "Stopped. The captions written so far are kept."
_TITLE = "captions written by a model"


@dataclasses.dataclass(frozen=True)
class CaptionRequest:
    """Arguments of ``stiefel-lora caption``."""

    folder: Path
    model: str
    include_subdirectories: bool = False
    overwrite: bool = False
    download: bool = False
    threshold: float = 0.35
    character_threshold: float = 0.85
    exclude: str = ""
    extension: str = TEXT

    def command(self) -> list[str]:
        """Return the program and its arguments."""
        flags = {
            "--overwrite": self.overwrite,
            "--download": self.download,
            "--include-subdirectories": self.include_subdirectories,
        }
        return [
            *(sys.executable, "-m", "stiefel_lora", "caption", str(self.folder)),
            # With "=", because a text can begin with a hyphen.
            f"--model={self.model}",
            f"--threshold={self.threshold:g}",
            f"--character-threshold={self.character_threshold:g}",
            f"--exclude={self.exclude}",
            f"--extension={self.extension}",
            *(flag for flag, wanted in flags.items() if wanted),
        ]


class WrittenCaptions:
    """Caption files before a model writes them, so that all can be undone together.

    Args:
        captions: captions of the folder.

    Raises:
        OutputError: If a file cannot be read.
    """

    def __init__(self, captions: EditableCaptions) -> None:
        self._captions = captions
        self._before = contents(captions.all, captions.extension)

    def record(self) -> str:
        """Make what was written since the last call undoable. Return a message.

        Raises:
            OutputError: If a file cannot be read or written.
        """
        count = record_changes(self._before, _TITLE, journal())
        self._before = contents(self._captions.all, self._captions.extension)
        text = counted(count, "caption was", "captions were")
        return f"{text} written. Undo edit restores the previous ones."


def result_of(code: int, output: str, errors: str) -> tuple[str, bool]:
    """Return the result of a command as text, and whether it failed.

    Args:
        code: exit code.
        output: its output, of which the last line is a summary.
        errors: its error output.
    """
    if code:
        return errors or f"The command failed with code {code}.", True
    lines = output.strip().splitlines()
    return "\n".join(filter(None, (lines[-1] if lines else "", errors))), False


def progress_in(text: str) -> tuple[int, int] | None:
    r"""Return the number of the last image in an output, and the number of images.

    >>> progress_in("1/3 a.png: cat\n2/3 b.png: dog\n")
    (2, 3)
    """
    found = re.findall(r"^(\d+)/(\d+) ", text, re.MULTILINE)
    return (int(found[-1][0]), int(found[-1][1])) if found else None


def missing_tagger() -> str:
    """Return how to install the package of taggers, or "" if it is installed."""
    if importlib.util.find_spec("onnxruntime") is not None:
        return ""
    return (
        "Taggers require onnxruntime, which is not installed. Install it with: "
        f"{install_command('captions')}"
    )

"""The command that writes captions, and its output."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import sys
from pathlib import Path

from ..._install import install_command
from ...config.caption_extension import TEXT

__all__ = ["CaptionRequest", "missing_tagger", "progress_in"]


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
            *("--model", self.model),
            *("--threshold", f"{self.threshold:g}"),
            *("--character-threshold", f"{self.character_threshold:g}"),
            *("--exclude", self.exclude),
            *("--extension", self.extension),
            *(flag for flag, wanted in flags.items() if wanted),
        ]


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

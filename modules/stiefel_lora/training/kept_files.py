"""LoRA files that are written at an interval, of which the oldest are removed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..runs.events import current_events
from ..runs.progress import say
from ..runs.run_folder import RunFolder
from .logging.sinks import MetricSink

__all__ = ["WITHOUT_AVERAGE", "KeptFiles", "outdated_files"]

WITHOUT_AVERAGE = "_without_ema"


class KeptFiles:
    """Remove the oldest files of ``save_every``.

    Files of other kinds (the finished LoRA, the best one, and those written on request)
    are never removed. Files from before a resume are known from the events of the run.

    Args:
        folder: folder of the run.
        sink: sink to which an event is written for removed files.
        keep: number of steps whose files are kept, or None for all.
    """

    def __init__(self, folder: RunFolder, sink: MetricSink, keep: int | None) -> None:
        self._folder = folder
        self._sink = sink
        self._keep = keep
        self._steps: dict[Path, int] | None = None

    def add(self, step: int, paths: Sequence[Path]) -> None:
        """Add files that were written after ``step`` and remove the oldest ones.

        Call this after the event of the files is written.
        """
        if self._keep is None:
            return
        known = self._known()
        known.update(dict.fromkeys(paths, step))
        steps = sorted({*known.values()})
        old = steps[: -self._keep]
        self._remove(step, [path for path, last in known.items() if last in old])

    def leave_out(self, paths: Sequence[Path]) -> None:
        """Never remove files, because they were written for another reason, too."""
        for path in paths if self._steps is not None else ():
            self._known().pop(path, None)

    def _known(self) -> dict[Path, int]:
        """Return the files of the interval with their steps."""
        if self._steps is None:
            self._steps = {}
            for event in current_events(self._folder.events_file):
                names = event["values"].get("files")
                if event["type"] != "lora" or not isinstance(names, list):
                    continue
                # A bare name: an edited events file must not lead to other folders.
                paths = [self._folder.lora / Path(str(name)).name for name in names]
                for path in paths:
                    self._steps.pop(path, None)
                if event["values"].get("interval"):
                    self._steps.update(dict.fromkeys(paths, event["step"]))
        return self._steps

    def _remove(self, step: int, paths: Sequence[Path]) -> None:
        removed = []
        for path in paths:
            self._known().pop(path)
            if not path.is_file():
                continue
            try:
                path.unlink()
            except OSError as error:
                say(f"{path} cannot be removed ({error.strerror}).")
            else:
                removed.append(path.name)
        if removed:
            self._sink.event("lora_removed", step, {"files": removed})


def outdated_files(folder: Path, stem: str, written: Sequence[Path]) -> list[Path]:
    """Return files of the same LoRA that other settings wrote before a resume.

    Args:
        folder: folder of the LoRA files.
        stem: file name without the suffixes of formats and data types.
        written: files that were written with the current settings.
    """
    endings = f"({WITHOUT_AVERAGE})?(_peft)?(_float16|_bfloat16|_float32)?"
    pattern = re.compile(f"{re.escape(stem)}{endings}")
    files = folder.glob("*.safetensors")
    return sorted(
        path for path in files if pattern.fullmatch(path.stem) and path not in written
    )

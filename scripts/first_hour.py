"""Replay the first hour of three users from a fresh clone, and record it.

    python scripts/first_hour.py --into FOLDER [--person window]

The checkout is cloned into a temporary folder. A user of the terminal, one of the
window and one of another trainer do there what the README and the documentation say.
FOLDER gets `first_hour.md` with each command, its seconds and exit code, and
screenshots of all tabs of the window in both themes, at 1280 x 800, 1920 x 1080 and
150 %.

The base model is the one of the demo, as full-size models have to be downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEOPLE = ("terminal", "window", "trainer")
SIZES = (("1280x800", 1.0), ("1920x1080", 1.0), ("1280x800", 1.5))
_STEPS = 20
_PRESET = "demo_stiefel_lora"
_LAST_LINES = 3


def main() -> int:
    """Replay what the chosen people do, and write the log."""
    arguments = _parse()
    arguments.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        clone = Path(place) / "stiefel-lora"
        log = _Log(clone, arguments.into.resolve())
        log.run(["git", "clone", "--quiet", str(ROOT), str(clone)], Path(place))
        for person in arguments.person or PEOPLE:
            log.person(person)
            _DEEDS[person](log, arguments.into.resolve())
            (arguments.into / "first_hour.md").write_text(log.text(), "utf-8")
    print(log.text())
    return int(log.failed)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--person", choices=PEOPLE, action="append")
    return parser.parse_args()


class _Log:
    """Commands that were typed, with their durations and last lines."""

    def __init__(self, clone: Path, into: Path) -> None:
        self.clone = clone
        # Paths of this machine, and what they are called in the log.
        self._names = {
            sys.executable: "python",
            f"{clone}{os.sep}": "",
            f"{clone.parent}{os.sep}": "",
            str(ROOT): "CHECKOUT",
            str(into): "FOLDER",
        }
        self.failed = False
        self._lines = ["# The first hour, replayed", ""]
        # The user's own settings, runs and queue stay out of it.
        self._environment = {
            **os.environ,
            "STIEFEL_LORA_QUEUE": str(clone / "queue"),
            "STIEFEL_LORA_UI": str(clone / "ui_memory"),
            "QT_QPA_PLATFORM": "offscreen",
        }

    @property
    def python(self) -> str:
        """Python of the environment that the installation creates."""
        return str(self.clone / ".venv" / "bin" / "python")

    @property
    def command(self) -> str:
        """The installed command."""
        return str(self.clone / ".venv" / "bin" / "stiefel-lora")

    def person(self, name: str) -> None:
        """Begin the part of a person."""
        self._lines += ["", f"## {name}", ""]

    def run(self, words: Sequence[str], folder: Path | None = None) -> None:
        """Run a command in the clone, and note its time, exit code and last lines."""
        began = time.monotonic()
        done = subprocess.run(
            list(words),
            cwd=folder or self.clone,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - began
        self.failed |= done.returncode != 0
        last = done.stdout.rstrip().splitlines()[-_LAST_LINES:]
        self._lines += [
            f"    $ {self._named(' '.join(words))}",
            *(f"    {self._named(line)}" for line in last),
            f"    ({seconds:.0f} s, exit code {done.returncode})",
            "",
        ]
        print(*self._lines[-len(last) - 3 :], sep="\n", flush=True)

    def _named(self, line: str) -> str:
        for path, name in self._names.items():
            line = line.replace(path, name)
        return line

    def text(self) -> str:
        """Return the log as Markdown."""
        return "\n".join(self._lines)


def _images(clone: Path) -> Path:
    """Put images of the demo into a folder, one of them truncated."""
    folder = clone / "my_images"
    if not folder.is_dir():
        folder.mkdir()
        source = next(clone.glob("modules/stiefel_lora/demo/*/train"))
        for path in sorted(source.iterdir())[:40]:
            shutil.copy(path, folder)
        cut = folder / "cut.png"
        cut.write_bytes(next(folder.glob("*.png")).read_bytes()[:900])
    return folder


def _terminal(log: _Log, _: Path) -> None:
    log.run([sys.executable, "scripts/quickstart.py"])
    log.run([log.command, "doctor"])
    images = _images(log.clone).name
    log.run([log.command, "scan", images])
    words = ["--kind", "style", "--images", images, "--vram", "12"]
    log.run([log.command, "new", *words])
    log.run([log.command, "validate", f"{images}.json"])
    changes = [f"concepts=./{images}", f"steps={_STEPS}", "run_name=mine"]
    sets = [word for change in changes for word in ("--set", change)]
    log.run([log.command, "train", _PRESET, *sets])
    for path in _files(log.clone):
        log.run([log.command, "lora", "inspect", path])


def _files(clone: Path) -> Iterator[str]:
    found = sorted((clone / "runs" / "mine" / "lora").glob("*.safetensors"))
    yield from (str(path.relative_to(clone)) for path in found[:1])


def _window(log: _Log, into: Path) -> None:
    log.run(["./install.sh"])
    images = _images(log.clone)
    run = log.clone / "runs" / "window"
    settings = {
        "extends": _PRESET,
        "concepts": [{"path": str(images)}],
        "output_dir": str(run.parent),
        "steps": _STEPS,
        "rank_every": 2,
        "validate_every": 10,
        "sample_every": 10,
        "run_name": "window",
    }
    config = log.clone / "window.json"
    config.write_text(json.dumps(settings, indent=2), "utf-8")
    log.run([log.python, "scripts/train.py", "window.json"])
    for size, scale in SIZES:
        folder = into / f"{size}_{scale:g}"
        words = ["--into", str(folder), "--size", size, "--scale", str(scale)]
        log.run([log.python, "scripts/make_screenshots.py", str(run), *words])


def _trainer(log: _Log, _: Path) -> None:
    environment = log.clone / ".venv-trainer"
    log.run([sys.executable, "-m", "venv", environment.name])
    python = str(environment / "bin" / "python")
    log.run([python, "-m", "pip", "install", "--quiet", ".", "peft"])
    readme = (log.clone / "README.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.S)
    (log.clone / "my_trainer.py").write_text(example, "utf-8")
    log.run([python, "my_trainer.py"])


_DEEDS = {"terminal": _terminal, "window": _window, "trainer": _trainer}


if __name__ == "__main__":
    sys.exit(main())

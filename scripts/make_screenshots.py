"""Take screenshots of every tab of the GUI, light and dark, for the documentation.

    python scripts/make_screenshots.py RUN [--into docs/images] [--scale 1.5]
                                           [--size 1280x800]

RUN is a run folder. The Run tab shows it, the other tabs show its settings, and the
Queue tab shows the queue (STIEFEL_LORA_QUEUE, or in the home folder).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stiefel_lora.ui.views.window import MainWindow

THEMES = ("light", "dark")
SIZE = (1180, 800)
# Sufficient for text, with a quarter of the file size.
COLORS = 256
# Tabs with images, which need all colors.
IMAGED = ("ui_data", "ui_run", "ui_lora_files")


def main() -> int:
    """Take screenshots of all tabs in both themes."""
    arguments = _parse()
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    os.environ["QT_SCALE_FACTOR"] = str(arguments.scale)
    arguments.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        os.environ["STIEFEL_LORA_UI"] = home
        for theme in THEMES:
            _draw(theme, arguments.run, arguments.into, arguments.size)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--into", type=Path, default=Path("docs/images"))
    parser.add_argument("--scale", type=float, default=1.0, help="QT_SCALE_FACTOR")
    parser.add_argument(
        "--size", type=_size, default=SIZE, help="width and height, such as 1280x800"
    )
    return parser.parse_args()


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


def _draw(theme: str, run: Path, into: Path, size: tuple[int, int]) -> None:
    from stiefel_lora.ui.controllers.memory import Memory
    from stiefel_lora.ui.views.app import make_application
    from stiefel_lora.ui.views.theme import apply_theme
    from stiefel_lora.ui.views.window import MainWindow

    app = make_application()
    apply_theme(theme)
    window = MainWindow(Memory(theme=theme, size=list(size), first=False))
    window.machine.enabled = False
    window.restore()
    window.open_file(run / "config.json")
    window.runs.show(run.resolve())
    window.show()
    for index in range(window.tabs.count()):
        window.tabs.setCurrentIndex(index)
        name = window.tabs.tabText(index).lower().replace(" ", "_")
        window.runs.look()
        _settle(app, window)
        _save(window, into / f"ui_{name}_{theme}.png")
    window.close()


def _settle(app: object, window: MainWindow) -> None:
    """Wait for thumbnails and layouts."""
    from PySide6.QtWidgets import QApplication

    assert isinstance(app, QApplication)
    ends = time.monotonic() + 1.5
    while time.monotonic() < ends:
        app.processEvents()
        time.sleep(0.02)
    window.data.model.wait()
    app.processEvents()


def _save(window: MainWindow, path: Path) -> None:
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "window.png"
        window.grab().save(str(plain))
        with Image.open(plain) as image:
            image = image.convert("RGB")
            if not path.name.startswith(IMAGED):
                image = image.quantize(COLORS)
            image.save(path, optimize=True)
    print(path)


if __name__ == "__main__":
    sys.exit(main())

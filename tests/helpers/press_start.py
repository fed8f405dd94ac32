"""``press_start.py CONFIG``: open the window, load a file, press Start, stay open."""

from __future__ import annotations

import sys
from pathlib import Path

from PySide6.QtCore import QTimer

from stiefel_lora.ui.controllers.memory import Memory
from stiefel_lora.ui.views.app import make_application
from stiefel_lora.ui.views.window import MainWindow


def main() -> None:
    app = make_application()
    window = MainWindow(Memory.load())
    window.restore()
    window.show()
    window.open_file(Path(sys.argv[1]))
    QTimer.singleShot(0, window.top.start.click)
    app.exec()


if __name__ == "__main__":
    main()

"""Open OneTrainer's own window, choose Stiefel LoRA, and take pictures of it.

python onetrainer_window.py CHECKOUT FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import loadable_torchvision  # noqa: F401

# As scripts/train_ui_qt.py of the host: both before PySide6.
import matplotlib.pyplot  # noqa: F401
import pydantic._internal._validators  # noqa: F401

from stiefel_lora.integrations.onetrainer.launch import enter

LABEL = "Stiefel LoRA"


def main(root: Path, folder: Path) -> None:
    """Write ``training_tab.png`` and ``parameters.png``, print what is to be seen."""
    enter(root)
    from modules.ui.OptimizerParamsWindowController import (
        OptimizerParamsWindowController,
    )
    from modules.ui.PySide6OptimizerParamsWindowView import (
        PySide6OptimizerParamsWindowView,
    )
    from modules.ui.PySide6TrainUIView import PySide6TrainView
    from modules.util.ui.pyside6_util import create_application
    from PySide6.QtWidgets import QComboBox, QLabel

    application = create_application()
    window = PySide6TrainView()
    window.show()
    window.tabview.setCurrentWidget(window.training_tab)
    (dropdown,) = (
        found
        for found in window.training_tab.findChildren(QComboBox)
        if found.findText(LABEL) >= 0
    )
    dropdown.setCurrentText(LABEL)
    config = window.controller.train_config
    print("chosen:", config.optimizer.optimizer)
    controller = OptimizerParamsWindowController(config)
    dialog = PySide6OptimizerParamsWindowView(window, controller, window.ui_state)
    dialog.resize(900, 640)
    dialog.show()
    application.processEvents()
    window.training_tab.grab().save(str(folder / "training_tab.png"))
    dialog.grab().save(str(folder / "parameters.png"))
    print("fields:", *(label.text() for label in dialog.findChildren(QLabel)), sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    # The host's window asks before it closes.
    sys.stdout.flush()
    import os

    os._exit(0)

"""Open OneTrainer's own window, choose Stiefel LoRA, and take pictures of it.

python onetrainer_window.py CHECKOUT FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import loadable_torchvision  # noqa: F401

# As scripts/train_ui_qt.py of the host: both before PySide6.
import matplotlib.pyplot  # noqa: F401
import pydantic._internal._validators  # noqa: F401

from stiefel_lora.integrations.onetrainer.launch import enter

LABEL = "Stiefel LoRA"
RANK, ALPHA = "24", "2.0"


def main(root: Path, folder: Path) -> None:
    """Write a picture of both tabs and of the dialog, print what is to be seen."""
    enter(root)
    from modules.ui.OptimizerParamsWindowController import (
        OptimizerParamsWindowController,
    )
    from modules.ui.PySide6OptimizerParamsWindowView import (
        PySide6OptimizerParamsWindowView,
    )
    from modules.ui.PySide6TrainUIView import PySide6TrainView
    from modules.util.enum.TrainingMethod import TrainingMethod
    from modules.util.ui.pyside6_util import create_application
    from PySide6.QtCore import QRect
    from PySide6.QtWidgets import QComboBox, QLabel, QLineEdit

    application = create_application()
    window = PySide6TrainView()
    window.ui_state.get_var("training_method").set(str(TrainingMethod.LORA))
    window.change_training_method(TrainingMethod.LORA)
    rate = window.ui_state.get_var("learning_rate")
    rate.set("0.0003")
    window.ui_state.get_var("lora_rank").set(RANK)
    window.ui_state.get_var("lora_alpha").set(ALPHA)
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
    print("rate with it:", rate.get(), config.learning_rate)
    controller = OptimizerParamsWindowController(config)
    dialog = PySide6OptimizerParamsWindowView(window, controller, window.ui_state)
    dialog.resize(900, 640)
    dialog.show()
    application.processEvents()
    window.training_tab.grab().save(str(folder / "training_tab.png"))
    dialog.grab().save(str(folder / "parameters.png"))
    print("fields:", *(label.text() for label in dialog.findChildren(QLabel)), sep="\n")

    def alpha_shown() -> list[tuple[str, bool]]:
        """Fields in alpha's place that are shown, and whether they can be edited."""
        options = window.lora_tab.options_frame
        grid = options.layout()
        fields = [
            (field, grid.getItemPosition(grid.indexOf(field))[:2])
            for field in options.findChildren(QLineEdit)
            if grid.indexOf(field) >= 0
        ]
        return [
            (field.text(), field.isEnabled())
            for field, place in fields
            if place == (2, 1) and not field.isHidden()
        ]

    window.tabview.setCurrentWidget(window.lora_tab)
    application.processEvents()
    upper = QRect(0, 0, window.lora_tab.width(), 230)
    window.lora_tab.grab(upper).save(str(folder / "lora_tab.png"))
    print("alpha with it:", alpha_shown())
    window.ui_state.get_var("lora_rank").set("8")
    print("alpha at another rank:", alpha_shown())
    dropdown.setCurrentText("ADAMW")
    print("alpha with ADAMW:", alpha_shown(), config.lora_alpha)
    print("rate with ADAMW:", rate.get(), config.learning_rate)
    dropdown.setCurrentText(LABEL)
    window.lora_tab.refresh_ui()
    application.processEvents()
    print("alpha in a new tab:", alpha_shown())
    rate.set("0.0001")
    window.training_tab.refresh_ui()
    print("rate in a new tab:", rate.get(), config.learning_rate)
    refuse(window, application)


def refuse(window: Any, application: Any) -> None:
    """Start a training that is refused; print the message of the window."""
    from modules.ui import PySide6TrainUIView

    shown: list[str] = []
    boxes = SimpleNamespace(critical=lambda parent, title, text: shown.append(text))
    PySide6TrainUIView.QMessageBox = boxes
    # It writes into the checkout.
    window.save_default = lambda: None
    window.confirm = lambda title, message: True
    window.ui_state.get_var("peft_type").set("LOHA")
    window.start_training()
    thread = window.controller.training_thread
    while thread is not None and thread.is_alive():
        application.processEvents()
        thread.join(0.05)
    application.processEvents()
    print("refused:", *shown)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    # The host's window asks before it closes.
    sys.stdout.flush()
    import os

    os._exit(0)

"""Open OneTrainer's older window, choose Stiefel LoRA, tell what it shows.

    xvfb-run -a -s "-screen 0 1100x740x24" \\
        python onetrainer_window_ctk.py CHECKOUT FOLDER

No test calls it: it needs a screen, or Xvfb in place of one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loadable_torchvision  # noqa: F401
from PIL import ImageGrab

from stiefel_lora.integrations.onetrainer.launch import enter

LABEL = "Stiefel LoRA"
RANK, ALPHA = "24", "2.0"


def main(root: Path, folder: Path) -> None:
    """Write ``ctk_lora_tab.png`` and ``ctk_parameters.png``, print what is shown."""
    enter(root)
    import customtkinter as ctk
    from modules.ui.CtkOptimizerParamsWindowView import CtkOptimizerParamsWindowView
    from modules.ui.CtkTrainUIView import CtkTrainUIView
    from modules.ui.OptimizerParamsWindowController import (
        OptimizerParamsWindowController,
    )
    from modules.util.enum.TrainingMethod import TrainingMethod

    window = CtkTrainUIView()
    state = window.ui_state
    state.get_var("training_method").set(str(TrainingMethod.LORA))
    window.change_training_method(TrainingMethod.LORA)
    state.get_var("lora_rank").set(RANK)
    state.get_var("lora_alpha").set(ALPHA)
    menus = (w for w in below(window) if isinstance(w, ctk.CTkOptionMenu))
    (dropdown,) = (menu for menu in menus if LABEL in menu.cget("values"))
    dropdown._dropdown_callback(LABEL)
    config = window.controller.train_config
    print("chosen:", config.optimizer.optimizer)

    def alpha_shown() -> list[tuple[str, str]]:
        """Fields in alpha's place that are shown, and whether they can be edited."""
        window.update()
        options = window.lora_tab.options_frame
        shown = [w for w in options.grid_slaves(2, 1) if w.winfo_manager() == "grid"]
        return [(field.get(), field.cget("state")) for field in shown]

    print("alpha with it:", alpha_shown())
    window.tabview.set("LoRA")
    picture(window, folder / "ctk_lora_tab.png")
    dialog = CtkOptimizerParamsWindowView(
        window, OptimizerParamsWindowController(config), state
    )
    labels = [w.cget("text") for w in below(dialog) if isinstance(w, ctk.CTkLabel)]
    print("fields:", *labels, sep="\n")
    picture(window, folder / "ctk_parameters.png")
    dialog.on_window_close()
    dropdown._dropdown_callback("ADAMW")
    print("alpha with ADAMW:", alpha_shown(), config.lora_alpha)
    dropdown._dropdown_callback(LABEL)
    window.lora_tab.refresh_ui()
    print("alpha in a new tab:", alpha_shown())


def below(widget: Any) -> Iterator[Any]:
    """All widgets inside a widget."""
    for child in widget.winfo_children():
        yield child
        yield from below(child)


def picture(window: Any, path: Path) -> None:
    """Save what the screen shows."""
    window.update()
    ImageGrab.grab(xdisplay="").save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    # The host's window asks before it closes.
    sys.stdout.flush()
    import os

    os._exit(0)

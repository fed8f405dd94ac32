"""Fill in the window of LoRA Easy Training Scripts; runs in our own environment.

    python easy_window.py CHECKOUT FILE

Writes to FILE what the window would send to its backend.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

EXTRA = {
    "network_module": "stiefel_lora.integrations.sdscripts",
    "optimizer_type": "stiefel_lora.StiefelLoRA",
}


def main(root: str, file: str) -> None:
    """Do by hand what docs/integrations/easy-training-scripts.md says."""
    target = Path(file).resolve()
    # It reads icons from where it is started.
    os.chdir(root)
    sys.path.insert(0, root)
    from main_ui_files.ArgsListUI import ArgsWidget
    from PySide6.QtWidgets import QApplication

    application = QApplication([])
    window = ArgsWidget()
    optimizer = window.optimizer_widget
    optimizer.widget.main_lr_input.setText("0.02")
    (decay,) = optimizer.opt_args
    decay.delete_clicked()
    (extra,) = (w for w in window.args_widget_array if w.name == "extra_args")
    for name, value in EXTRA.items():
        extra.widget.add_extra_arg_button.click()
        item = extra.extra_args[-1]
        item.arg_name_input.setText(name)
        item.arg_value_input.setText(value)
    target.write_text(json.dumps(window.get_args()))
    application.quit()


if __name__ == "__main__":
    main(*sys.argv[1:])

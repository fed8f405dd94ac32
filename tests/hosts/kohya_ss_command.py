"""Open the LoRA tab of kohya_ss, fill in fields, and let it print its command; runs in
its environment.

    python kohya_ss_command.py CHECKOUT FIELDS

FIELDS is a JSON file: names of fields -> values; what it does not name keeps what the
window shows when it opens. Printed are the labels of those fields, and the command.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(root: Path, fields: Path) -> None:
    """Do what the button 'Print training command' does."""
    sys.path.insert(0, str(root))
    # The host writes the command to a folder logs/ where it runs.
    os.chdir(fields.parent)
    import gradio
    from kohya_gui import lora_gui
    from kohya_gui.class_gui_config import KohyaSSGUIConfig

    with gradio.Blocks():
        lora_gui.lora_tab(headless=True, config=KohyaSSGUIConfig())
    values = json.loads(fields.read_text(encoding="utf-8"))
    shown = _Shown()
    components = dict(lora_gui.last_built_field_registry)
    for name in values:
        print(f"label of {name}: {components[name].label}")
        shown[components[name]] = values[name]
    lora_gui.last_built_gui_entries["print_command"](shown)


class _Shown(dict):
    """Values by component; one that is not filled in has its own."""

    def __missing__(self, component: object) -> object:
        # An empty field comes from the browser as an empty text.
        return "" if component.value is None else component.value


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

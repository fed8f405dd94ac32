"""modules/ui/BaseLoraTabView.py: rank and alpha, drawn through ``components``."""


class BaseLoraTabView:
    """Rebuilt whenever the type is changed."""

    def __init__(self, components):
        self.components = components

    def build_lora_options(self, master, controller, ui_state, peft_type):
        for row, name in enumerate(("rank", "alpha"), 1):
            self.components.label(master, row, 0, f"LoRA {name}", tooltip="")
            self.components.entry(
                master, row, 1, ui_state, f"lora_{name}", required=True
            )

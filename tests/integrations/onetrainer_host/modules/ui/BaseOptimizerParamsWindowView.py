"""modules/ui/BaseOptimizerParamsWindowView.py: fields by key, unknown keys skipped."""

from modules.util.optimizer_util import OPTIMIZER_DEFAULT_PARAMETERS

KNOWN = {"beta1": "Beta1", "fused_back_pass": "Fused Back Pass"}


class BaseOptimizerParamsWindowView:
    """Draws through ``components``, whatever the toolkit is."""

    def __init__(self, components):
        self.components = components

    def build_dynamic_content(
        self,
        master,
        controller,
        optimizer_ui_state,
        update_user_pref_cb,
        open_muon_adam_cb,
    ):
        chosen = controller.config.optimizer.optimizer
        for index, key in enumerate(OPTIMIZER_DEFAULT_PARAMETERS[chosen]):
            if key not in KNOWN:
                continue
            row, column = index // 2 + 1, 3 * (index % 2)
            self.components.label(master, row, column, KNOWN[key], tooltip="")
            self.components.entry(
                master,
                row,
                column + 1,
                optimizer_ui_state,
                key,
                command=update_user_pref_cb,
            )

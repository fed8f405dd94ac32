"""modules/ui/OptimizerParamsWindowController.py: the same dropdown in the dialog."""

from modules.util.optimizer_util import change_optimizer


class OptimizerParamsWindowController:
    """Behind the dialog of both toolkits."""

    def __init__(self, config):
        self.config = config

    def restore_optimizer_config(self, ui_state):
        ui_state.get_var("optimizer").update(change_optimizer(self.config))

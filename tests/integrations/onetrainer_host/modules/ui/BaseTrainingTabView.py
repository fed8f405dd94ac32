"""modules/ui/BaseTrainingTabView.py: builds the tab, again for another model type."""


class BaseTrainingTabView:
    """Its dropdown calls the command once when it is built."""

    def __init__(self, controller, ui_state):
        self.controller = controller
        self.ui_state = ui_state

    def build(self, controller, ui_state):
        self.choose()

    def choose(self):
        self.controller.restore_optimizer_config(self.ui_state)

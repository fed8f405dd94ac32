"""modules/ui/TrainUIController.py: a training in a thread of the window."""

import threading
import traceback

from modules.util import create


class TrainUIController:
    """What the button that starts a training leads to."""

    def __init__(self, config, view):
        self.train_config = config
        self.view = view
        self.training_thread = None

    def start_training(self):
        self.training_thread = threading.Thread(target=self._train)
        self.training_thread.start()

    def _train(self):
        trainer = create.create_trainer(self.train_config, None, None)
        try:
            trainer.start()
            trainer.train()
        except Exception:
            traceback.print_exc()
        trainer.end()

"""modules/util/enum/Optimizer.py: the dropdown is ``list(Optimizer)``."""

from enum import Enum


class Optimizer(Enum):
    """Two of the host's optimizers."""

    ADAMW = "ADAMW"
    SGD = "SGD"

    def supports_fused_back_pass(self):
        return self is Optimizer.ADAMW

    def __str__(self) -> str:
        return self.value

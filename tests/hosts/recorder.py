"""Write down what an optimizer is given and what it makes of it, step by step."""

from __future__ import annotations

import atexit
import copy
from pathlib import Path

import torch

__all__ = ["record"]


def record(optimizer: type, dump: Path) -> None:
    """Let every step of this class be saved to ``dump`` when the program ends."""
    step = optimizer.step
    steps: list[dict] = []

    def recorded(self, *args, **kwargs):
        params = [p for group in self.param_groups for p in group["params"]]
        before = [p.detach().clone() for p in params]
        state = copy.deepcopy(self.state_dict()["state"])
        grads = [None if p.grad is None else p.grad.clone() for p in params]
        result = step(self, *args, **kwargs)
        steps.append(
            {
                "names": [
                    n for g in self.param_groups for n in g.get("lora_param_names", ())
                ],
                "lr": [group["lr"] for group in self.param_groups],
                "before": before,
                "state": state,
                "grads": grads,
                "after": [p.detach().clone() for p in params],
                "state_after": copy.deepcopy(self.state_dict()["state"]),
            }
        )
        return result

    optimizer.step = recorded
    atexit.register(lambda: torch.save(steps, dump))

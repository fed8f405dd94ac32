"""Optimizers that break or stretch torch's protocol, each in one way."""

from __future__ import annotations

from typing import Any

import torch

__all__ = [
    "AssertsItsOptions",
    "DropsInStep",
    "DropsParameters",
    "EvalRaises",
    "ExitsInStep",
    "ExitsWhenMade",
    "LoadRaises",
    "MakesNothing",
    "NeverInitialized",
    "NoRate",
    "NoStep",
    "ScheduleFree",
    "StateIsBare",
    "StateOfObjects",
    "TrainWantsMode",
    "WantsClosure",
]


class AssertsItsOptions(torch.optim.SGD):
    """Checks its options by assert."""

    def __init__(self, params: Any, lr: float, strength: float = 1.0) -> None:
        assert strength > 0
        super().__init__(params, lr=lr)


class NoRate(torch.optim.Optimizer):
    """Keeps its learning rate to itself."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"rate": lr})


class NoStep(torch.optim.Optimizer):
    """Has no step."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})


class WantsClosure(torch.optim.SGD):
    """Takes a step without a closure for a mistake."""

    def step(self, closure: Any = None) -> Any:
        """Refuse to step by itself."""
        if closure is None:
            raise RuntimeError("sharpness needs a closure.\nSee our manual.")
        return super().step(closure)


class StateOfObjects(torch.optim.SGD):
    """Keeps an object of its own in its state."""

    def step(self, closure: Any = None) -> Any:
        """Step and remember a path."""
        self.state[self.param_groups[0]["params"][0]]["self"] = StateOfObjects
        return super().step(closure)


class TrainWantsMode(torch.optim.SGD):
    """Spells ``train`` as modules do, without a default."""

    def train(self, mode: bool) -> None:
        """Do nothing."""

    def eval(self) -> None:
        """Do nothing."""


class EvalRaises(torch.optim.SGD):
    """Has no weights to show."""

    def train(self) -> None:
        """Do nothing."""

    def eval(self) -> None:
        """Refuse."""
        raise RuntimeError("not yet averaged")


class LoadRaises(torch.optim.SGD):
    """Cannot be resumed."""

    def load_state_dict(self, state_dict: Any) -> None:
        """Refuse."""
        raise NotImplementedError


class StateIsBare(torch.optim.SGD):
    """Saves nothing of what torch's own save."""

    def state_dict(self) -> dict[str, Any]:
        """Give a number."""
        return {"steps": 1}


class DropsParameters(torch.optim.SGD):
    """Trains the first parameter alone."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(list(params)[:1], lr=lr)


class DropsInStep(torch.optim.SGD):
    """Forgets parameters while it trains."""

    def step(self, closure: Any = None) -> Any:
        """Step, then keep the first parameter."""
        super().step(closure)
        del self.param_groups[0]["params"][1:]


class ExitsWhenMade(torch.optim.SGD):
    """Ends the program where something is missing."""

    def __init__(self, params: Any, lr: float) -> None:
        raise SystemExit("no license")


class ExitsInStep(torch.optim.SGD):
    """Ends the program at its first step."""

    def step(self, closure: Any = None) -> Any:
        """Leave."""
        raise SystemExit(3)


class MakesNothing(torch.optim.SGD):
    """Is None where it should be an optimizer."""

    def __new__(cls, *args: Any, **options: Any) -> Any:
        """Give nothing."""
        return None


class NeverInitialized(torch.optim.SGD):
    """Has no groups, since it does not call its base class."""

    def __init__(self, params: Any, lr: float) -> None:
        self.rate = lr


class ScheduleFree(torch.optim.Optimizer):
    """Schedule-free SGD (Defazio et al. 2024, eq. 3 to 5) with the usual protocol.

    Trains y = 0.9 x + 0.1 z; ``eval()`` puts x, the average of z, in its place. It
    begins in evaluation mode, as the authors' own does.
    """

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr, "train_mode": False, "k": 0})

    @torch.no_grad()
    def _move(self, group: dict[str, Any], weight: float) -> None:
        for parameter in group["params"]:
            if "z" in self.state[parameter]:
                parameter.lerp_(self.state[parameter]["z"], weight)

    def eval(self) -> None:
        """Put the averages into the parameters."""
        for group in self.param_groups:
            if group["train_mode"]:
                self._move(group, 1 - 1 / 0.9)
            group["train_mode"] = False

    def train(self) -> None:
        """Put the weights to train into the parameters."""
        for group in self.param_groups:
            if not group["train_mode"]:
                self._move(group, 1 - 0.9)
            group["train_mode"] = True

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Step z, and y and x with it."""
        for group in self.param_groups:
            if not group["train_mode"]:
                raise RuntimeError("The optimizer is not in train mode.")
            share = 1 / (group["k"] + 1)
            for y in group["params"]:
                if y.grad is None:
                    continue
                z = self.state[y].setdefault("z", y.clone())
                y.lerp_(z, share)
                y.add_(y.grad, alpha=group["lr"] * (0.9 * (1 - share) - 1))
                z.sub_(y.grad, alpha=group["lr"])
            group["k"] += 1

"""A method in a user's file, and a catalogue that forgets it after the test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from stiefel_lora.config.plugins import offer_methods
from stiefel_lora.methods import BUILT_IN, CATALOGUE, plugins, remove_method

__all__ = ["SIGN_LORA", "forgetting_plugins", "write_plugin"]

SIGN_LORA = """\
from stiefel_lora import Option, PairOptimizer, Rule, register


@register(
    label="Sign LoRA",
    summary="Signs of the momentum of both factors.",
    default_lr=1e-3,
    options=(Option("momentum", 0.9, low=0, high=1, doc="Decay of the momentum."),),
)
class SignLoRA(PairOptimizer):
    class rule(Rule):
        def states(self, choices):
            return {"mean_up": "up", "mean_down": "down"}

        def update(self, batch):
            decay = batch.numbers["momentum"]
            for role, lr in (("up", batch.lr_up), ("down", batch.lr_down)):
                mean = decay * batch.state[f"mean_{role}"]
                mean = mean + getattr(batch, f"grad_{role}")
                batch.state[f"mean_{role}"] = mean
                setattr(batch, role, getattr(batch, role) - lr * mean.sign())
"""


def write_plugin(folder: Path, text: str = SIGN_LORA, name: str = "my_sign.py") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@contextlib.contextmanager
def forgetting_plugins() -> Iterator[None]:
    """Leave catalogue and schema as they were."""
    try:
        yield
    finally:
        for name in set(CATALOGUE) - BUILT_IN:
            remove_method(name)
        plugins._files.clear()
        offer_methods()

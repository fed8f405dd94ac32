"""Lines for the console of OneTrainer, which shows what is printed."""

from __future__ import annotations

__all__ = ["say"]


def say(sentence: str) -> None:
    """Print a sentence that names who says it."""
    print(f"stiefel-lora: {sentence}", flush=True)

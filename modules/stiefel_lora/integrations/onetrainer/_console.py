"""Messages in the console of OneTrainer."""

from __future__ import annotations

__all__ = ["say"]


def say(message: str) -> None:
    """Print a message with the name of this package."""
    print(f"stiefel-lora: {message}", flush=True)

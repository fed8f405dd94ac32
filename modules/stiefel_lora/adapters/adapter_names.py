"""Names of the adapters inside peft's layers."""

from __future__ import annotations

__all__ = ["OFFSET", "TRAINED"]

TRAINED = "default"
"""The trained adapter, by peft's own name."""

OFFSET = "offset"
"""The frozen adapter that takes a start away again."""

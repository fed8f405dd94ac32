"""Names of the adapters inside peft's layers."""

from __future__ import annotations

__all__ = ["OFFSET", "TRAINED"]

TRAINED = "default"
"""The trained adapter, with peft's default name."""

OFFSET = "offset"
"""The frozen adapter that compensates for a nonzero start."""

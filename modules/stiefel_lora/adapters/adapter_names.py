"""Names of the adapters in peft layers."""

from __future__ import annotations

__all__ = ["OFFSET", "TRAINED"]

TRAINED = "default"
"""Name of the trained adapter, which is the default of peft."""

OFFSET = "offset"
"""Name of the frozen adapter that subtracts a nonzero initial product."""

"""Ranks of a LoRA: measured (needs torch), named in logs, and drawn over time.

Importing this package imports nothing: ``tags`` is the standard library alone, so that
the queue and the window can read the curves of a run by the names that it wrote.
"""

from __future__ import annotations

__all__: list[str] = []

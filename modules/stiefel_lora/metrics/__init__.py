"""Ranks of a LoRA: measurement (needs torch), tags in logs, and a map over time.

Importing this package imports nothing: ``tags`` needs only the standard library, so
that the queue and the window can read the curves of a run without torch.
"""

from __future__ import annotations

__all__: list[str] = []

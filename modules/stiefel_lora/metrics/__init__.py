"""Effective ranks of a LoRA: measurement, names in logs, and a heat map over time.

Importing this package does not import torch, so that the queue and the GUI can read the
curves of a run with ``tags`` alone.
"""

from __future__ import annotations

__all__: list[str] = []

"""Graphical interface: controllers without Qt, Qt views, no torch.

Training runs in the processes of the queue. The GUI only reads their output and writes
command files, so closing it, or a crash, does not stop a training.
"""

from __future__ import annotations

from .open_window import launch

__all__ = ["launch"]

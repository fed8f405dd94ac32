"""The desktop window: controllers without Qt, views with it, and no torch.

Training happens in processes of the queue; the window only reads what they write and
drops orders, so that closing it, or a crash of it, stops no training.
"""

from __future__ import annotations

from .open_window import launch

__all__ = ["launch"]

"""Whether Qt can be loaded on this machine."""

from __future__ import annotations

import importlib

__all__ = ["missing_library"]


def missing_library() -> str:
    """What Qt lacks here, in the words of the system; "" when it is complete.

    Its wheels leave libEGL, libGL, fontconfig and some more to the system.
    """
    try:
        importlib.import_module("PySide6.QtWidgets")
    except ImportError as error:
        return str(error)
    return ""

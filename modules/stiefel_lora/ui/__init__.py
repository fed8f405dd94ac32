"""Graphical user interface, with controllers that do not import Qt, and Qt views.

Trainings run in separate processes. The GUI reads their output and sends commands as
files. Trainings continue if the GUI is closed or crashes.
"""

from __future__ import annotations

from .open_window import launch

__all__ = ["launch"]

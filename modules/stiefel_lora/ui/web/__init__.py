"""Graphical user interface in the browser: server, security and pages (NiceGUI).

The controllers are those of the window. Trainings run in separate processes and
continue if the server ends.
"""

from __future__ import annotations

from .launching import ServerOptions, serve

__all__ = ["ServerOptions", "serve"]

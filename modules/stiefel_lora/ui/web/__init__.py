"""Graphical user interface in the browser: server, security and pages (NiceGUI).

The controllers are those of the window. Trainings run in separate processes and
continue if the server ends.
"""

from __future__ import annotations

from .launching import serve
from .server_options import ServerOptions

__all__ = ["ServerOptions", "serve"]

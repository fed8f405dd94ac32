"""Faster import of NiceGUI, without packages that only clients need."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

__all__ = ["without_clients"]

# python-engineio uses them to connect to other servers, and works without them. They
# take a tenth of the time until the first page, among others for certificates.
_CLIENTS = ("aiohttp", "requests", "websocket")


@contextlib.contextmanager
def without_clients() -> Iterator[None]:
    """Import modules in the block as if HTTP clients were not installed."""
    hidden = [name for name in _CLIENTS if name not in sys.modules]
    for name in hidden:
        # Imports of a module that is None fail like those of a missing one.
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]

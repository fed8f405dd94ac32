"""The one place where the version is written; setup.py reads it as text."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0.dev0"

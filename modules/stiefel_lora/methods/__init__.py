"""Catalogue of optimizers: one record per method, standard library only.

Config, command line, GUI, docs and host adapters are built from these records; a test
compares them with the constructors. Importing this package does not import torch; a
plugin, which does, is imported only when it is named.
"""

from __future__ import annotations

from ._catalogue import (
    BUILT_IN,
    CATALOGUE,
    CUSTOM,
    add_method,
    check_options,
    remove_method,
)
from ._common import adam_options
from ._rates import far_rate, rate_note, usual_lr
from ._types import Method, Option
from .plugins import load_installed, load_plugin, method

__all__ = [
    "BUILT_IN",
    "CATALOGUE",
    "CUSTOM",
    "Method",
    "Option",
    "adam_options",
    "add_method",
    "check_options",
    "far_rate",
    "load_installed",
    "load_plugin",
    "method",
    "rate_note",
    "remove_method",
    "usual_lr",
]

"""Catalogue of optimizers: a record of every method, with its options.

The configuration, command line, GUI, docs and integrations are built from these
records. Importing this package does not import torch. A plugin, which may import torch,
is only imported when one of its optimizers is used.
"""

from __future__ import annotations

from ._catalogue import (
    BUILT_IN,
    CATALOGUE,
    CUSTOM,
    add_method,
    check_options,
    find_record,
    remove_method,
    suggestion,
)
from ._common import adam_options
from ._factor_decay import DECAYS, decay_of, decays_apart, no_decay_of
from ._packaged import PACKAGED
from ._rates import decay_excess, far_rate, rate_note, usual_lr
from ._stiefel import ANGLE_PER_LR, MOMENTUM, REST_LR_RATIO
from ._types import Method, Option, PackagedMethod
from .plugins import load_installed, load_plugin, method

__all__ = [
    "ANGLE_PER_LR",
    "BUILT_IN",
    "CATALOGUE",
    "CUSTOM",
    "DECAYS",
    "MOMENTUM",
    "PACKAGED",
    "REST_LR_RATIO",
    "Method",
    "Option",
    "PackagedMethod",
    "adam_options",
    "add_method",
    "check_options",
    "decay_excess",
    "decay_of",
    "decays_apart",
    "far_rate",
    "find_record",
    "load_installed",
    "load_plugin",
    "method",
    "no_decay_of",
    "rate_note",
    "remove_method",
    "suggestion",
    "usual_lr",
]

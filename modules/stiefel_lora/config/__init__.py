"""Configuration of a training run: schema, files, overrides and presets.

``load_config`` reads a file into a ``TrainConfig``. ``check_paths`` and
``check_complete`` check paths and required settings before a run. ``dump_lean`` and
``dump_full`` convert a configuration to text. This package does not import torch.
"""

from __future__ import annotations

from .checks import check_complete, check_paths, remarks
from .concept import Concept
from .dump import dump_full, dump_lean, lean
from .loading import load_config, parse_config
from .optimizer import CustomOptimizer, OptimizerConfig
from .parts import Sample
from .schema import TrainConfig
from .violation import SettingsError, Violation

__all__ = [
    "Concept",
    "CustomOptimizer",
    "OptimizerConfig",
    "Sample",
    "SettingsError",
    "TrainConfig",
    "Violation",
    "check_complete",
    "check_paths",
    "dump_full",
    "dump_lean",
    "lean",
    "load_config",
    "parse_config",
    "remarks",
]

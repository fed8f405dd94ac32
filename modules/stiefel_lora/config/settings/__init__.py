"""Settings of a run by topic."""

from __future__ import annotations

from .data import DataSettings
from .general import GeneralSettings
from .lora import LoraSettings
from .model import ModelSettings
from .objective import ObjectiveSettings
from .optimization import OptimizationSettings
from .saving import SavingSettings
from .watching import WatchingSettings

__all__ = [
    "SETTING_GROUPS",
    "DataSettings",
    "GeneralSettings",
    "LoraSettings",
    "ModelSettings",
    "ObjectiveSettings",
    "OptimizationSettings",
    "SavingSettings",
    "WatchingSettings",
]

SETTING_GROUPS = (
    GeneralSettings,
    ModelSettings,
    DataSettings,
    OptimizationSettings,
    ObjectiveSettings,
    LoraSettings,
    WatchingSettings,
    SavingSettings,
)
"""All topics, in the order of the tabs of the GUI."""

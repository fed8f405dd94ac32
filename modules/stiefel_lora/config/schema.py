"""Configuration of a training run."""

from __future__ import annotations

from pydantic import model_validator

from ._base import broken_rule
from .resolved import Settings
from .rules import violations_of
from .settings.general import SCHEMA_VERSION
from .settings.optimization import DEFAULT_OPTIMIZER

__all__ = ["DEFAULT_OPTIMIZER", "SCHEMA_VERSION", "TrainConfig"]


class TrainConfig(Settings):
    """All settings of a run. ``load_config`` reads it from a file."""

    @model_validator(mode="after")
    def _rules(self) -> TrainConfig:
        found = violations_of(self)
        if found:
            raise broken_rule(*found)
        return self

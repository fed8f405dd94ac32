"""Conversion of epochs to steps, once the number of images is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from .._wording import counted
from .interval import is_in, split_interval
from .resolved import Settings
from .rules import violations_of
from .schema import TrainConfig
from .violation import SettingsError

__all__ = ["INTERVALS", "has_epochs", "in_steps", "length_text", "newest_length"]

INTERVALS = (
    "validate_every",
    "sample_every",
    "checkpoint_every",
    "save_every",
    "rank_every",
)
"""Settings that are intervals."""

_STOPS = ("text_encoder_stop_training_after", "text_encoder_2_stop_training_after")


def has_epochs(config: Settings) -> bool:
    """Return whether a setting is given in epochs."""
    return config.epochs is not None or bool(_intervals_in_epochs(config))


def in_steps(config: TrainConfig, per_epoch: Fraction) -> tuple[TrainConfig, str]:
    """Convert all epochs to steps, rounded up.

    Args:
        config: configuration with epochs.
        per_epoch: average number of steps per epoch.

    Returns:
        The configuration with steps only, and one line about the result.

    Raises:
        SettingsError: If the number of steps breaks a rule, such as that of the warmup.
    """
    found: dict[str, Any] = {
        key: _steps(split_interval(getattr(config, key))[0], per_epoch)
        for key in _intervals_in_epochs(config)
    }
    parts = [f"{key} {steps}" for key, steps in found.items()]
    line = f"1 epoch of {_shown(per_epoch)}: {', '.join(parts)}."
    if config.epochs is not None:
        steps = _steps(Fraction(str(config.epochs)), per_epoch)
        found |= {"steps": steps, "epochs": None}
        total = [counted(steps, "step", "steps"), *parts]
        line = f"{_epochs(config)} of {_shown(per_epoch)}: {', '.join(total)}."
    resolved = config.model_copy(update=found)
    problems = violations_of(resolved)
    if problems:
        raise SettingsError(problems)
    return resolved, line


def length_text(config: Settings) -> str:
    """Return the length of the run: its steps, or its epochs while these are unknown.

    >>> from stiefel_lora.config import parse_config
    >>> length_text(parse_config({"epochs": 2}))
    '2 epochs'
    """
    if config.epochs is None:
        return counted(config.steps, "step", "steps")
    return _epochs(config)


def newest_length(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``below`` without the length of the run that ``above`` replaces.

    ``steps`` of a file replace ``epochs`` of the file that it extends, and vice versa.
    """
    twins = {"steps": "epochs", "epochs": "steps"}
    replaced = {twins[key] for key in twins if above.get(key) is not None}
    return {key: value for key, value in below.items() if key not in replaced}


def _intervals_in_epochs(config: Settings) -> list[str]:
    keys = (*INTERVALS, *_STOPS, "learning_rate_warmup_steps")
    return [key for key in keys if is_in(getattr(config, key), "epochs")]


def _steps(epochs: Fraction, per_epoch: Fraction) -> int:
    # Up, so that a run of N epochs uses every image N times.
    return max(1, math.ceil(epochs * per_epoch))


def _epochs(config: Settings) -> str:
    assert config.epochs is not None
    return f"{config.epochs:g} epoch{'s' * (config.epochs != 1)}"


def _shown(per_epoch: Fraction) -> str:
    return f"{float(per_epoch):.4g} step{'s' * (per_epoch != 1)}"

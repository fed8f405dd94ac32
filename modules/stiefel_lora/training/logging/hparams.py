"""Settings of a run for the HParams tab of TensorBoard."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ...config.dump import dump_full, flat, lean

if TYPE_CHECKING:
    from ...config import TrainConfig

__all__ = ["hparams_of"]

# Shown for every run, so that runs with default values can be compared with others.
_ALWAYS = (
    "optimizer.name",
    "learning_rate",
    "lora_rank",
    "batch_size",
    "gradient_accumulation_steps",
    "seed",
)
_NOTES = ("comment", "run_name", "schema_version", "tracker_project")


def hparams_of(config: TrainConfig) -> dict[str, bool | float | str]:
    """Return the settings that differ from the defaults, and the most important ones.

    Lists, paths and notes are left out.
    """
    every, changed = flat(json.loads(dump_full(config))), flat(lean(config))
    keys = dict.fromkeys((*_ALWAYS, *changed))
    return {
        key: every[key]
        for key in keys
        if isinstance(every.get(key), bool | int | float | str) and not _is_note(key)
    }


def _is_note(key: str) -> bool:
    return key in _NOTES or key.endswith(("_dir", "_name"))

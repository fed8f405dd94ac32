"""Training of LoRAs, with checkpoints, metrics and samples.

A run uses these modules in this order: ``trainer`` (``train`` and the phases of a run),
``preflight`` (checks, shared with ``validate``), ``build`` (creation of model,
optimizer and data), ``loop`` (training steps) and ``export`` (LoRA files).
``checkpointing`` saves and loads checkpoints, ``loss`` contains noise and loss
functions, ``logging`` measures and logs metrics, and ``backend`` handles device,
attention, compilation and memory. Run folders are in ``stiefel_lora.runs``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..runs.commands import send_command
from ..runs.events import read_events
from ..runs.result import TrainResult
from ..runs.run_folder import RunFolder

if TYPE_CHECKING:
    from .trainer import train

__all__ = ["RunFolder", "TrainResult", "read_events", "send_command", "train"]


def __getattr__(name: str) -> Any:
    # torch and diffusers take seconds to import, and code that watches a run needs
    # neither.
    if name == "train":
        return importlib.import_module(".trainer", __name__).train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

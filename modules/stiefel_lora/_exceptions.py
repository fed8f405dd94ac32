"""Exceptions of this package.

    StiefelLoraError
    |-- InputError (also ValueError)   invalid input: exit code 2
    |   |-- ConfigError                a preset, a config file or ``--set``
    |   |-- OptionError                an optimizer option or a parameter group
    |   |-- PairingError               parameters that cannot be identified as A and B
    |   |-- ModelError                 a model folder or checkpoint of the base model
    |   |-- DataError                  images, captions, caches
    |   |-- CheckpointError            a checkpoint that is damaged or of another run
    |   |-- QueueError                 a request to a queue that is not possible
    |   `-- OutputError                a folder or file that cannot be written
    `-- TrainingError (RuntimeError)   a run that cannot continue: exit code 1
        `-- NonFiniteError             NaN or infinity, with the step and the block

Messages contain the invalid value, the reason, and the fix. The command line prints
them without a traceback.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "InputError",
    "ModelError",
    "NonFiniteError",
    "OptionError",
    "OutputError",
    "PairingError",
    "QueueError",
    "StiefelLoraError",
    "TrainingError",
    "reason_of",
]


class StiefelLoraError(Exception):
    """Base class for all exceptions of this package."""


class InputError(StiefelLoraError, ValueError):
    """Raised if an input is invalid."""


class ConfigError(InputError):
    """Raised if a config file, a preset or ``--set`` contains invalid settings.

    Attributes:
        key: key of the invalid setting, or "".
    """

    def __init__(self, *message: object, key: str = "") -> None:
        super().__init__(*message)
        self.key = key


class OptionError(InputError):
    """Raised if an optimizer option or parameter group is invalid."""


class PairingError(InputError):
    """Raised if parameters cannot be identified as A and B of LoRA layers."""


class ModelError(InputError):
    """Raised if a base model is missing, damaged or of another family."""


class DataError(InputError):
    """Raised if images, captions or caches cannot be used."""


class CheckpointError(InputError):
    """Raised if a checkpoint is damaged or belongs to another run."""


class QueueError(InputError):
    """Raised if a request to a job queue is not possible."""


class OutputError(InputError):
    """Raised if a folder or file cannot be written."""


class TrainingError(StiefelLoraError, RuntimeError):
    """Raised if a run with valid input cannot continue."""


class NonFiniteError(TrainingError):
    """Raised if a loss, gradient or weight is NaN or infinite."""


def reason_of(error: BaseException) -> str:
    """Return the first line of an error message, or its type if it is empty."""
    if isinstance(error, SystemExit):
        return f"it exits the program: sys.exit({error.code!r})"
    lines = str(error).strip().splitlines()
    return (lines[0].rstrip(".") if lines else "") or type(error).__name__

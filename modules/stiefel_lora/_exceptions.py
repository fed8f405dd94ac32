"""Every error this package raises on purpose.

    StiefelLoraError
    |-- InputError (also ValueError)   an input that cannot work: exit code 2
    |   |-- ConfigError                a preset, a config file or ``--set``
    |   |-- OptionError                an optimizer option or a parameter group
    |   |-- PairingError               parameters that cannot be identified as A and B
    |   |-- ModelError                 a model folder or checkpoint of the base model
    |   |-- DataError                  images, captions, caches
    |   |-- CheckpointError            a checkpoint that is damaged or of another run
    |   |-- QueueError                 a request that a queue cannot carry out
    |   `-- OutputError                a folder or file that cannot be written
    `-- TrainingError (RuntimeError)   a run that cannot continue: exit code 1
        `-- NonFiniteError             NaN or infinity, with the step and the block

A message gives the value, the rule and what to write instead, in one or two sentences.
The command line prints it without a traceback.
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
    """Base class of all errors that this package raises."""


class InputError(StiefelLoraError, ValueError):
    """Raised if an input is invalid."""


class ConfigError(InputError):
    """Raised if a preset, a config file or ``--set`` breaks a rule of the schema."""


class OptionError(InputError):
    """Raised if an optimizer option or parameter group is invalid."""


class PairingError(InputError):
    """Raised if the LoRA roles of parameters cannot be determined."""


class ModelError(InputError):
    """Raised if a base model is missing, damaged or of another family."""


class DataError(InputError):
    """Raised if images, captions or caches cannot be used."""


class CheckpointError(InputError):
    """Raised if a checkpoint is damaged or belongs to another run."""


class QueueError(InputError):
    """Raised if a job queue cannot carry out a request."""


class OutputError(InputError):
    """Raised if a folder or file cannot be written."""


class TrainingError(StiefelLoraError, RuntimeError):
    """Raised if a run with valid input cannot continue."""


class NonFiniteError(TrainingError):
    """Raised if a loss, gradient or weight is NaN or infinite."""


def reason_of(error: BaseException) -> str:
    """First line of an error, to stand inside a message; its type where it is empty."""
    if isinstance(error, SystemExit):
        return f"it exits the program: sys.exit({error.code!r})"
    lines = str(error).strip().splitlines()
    return (lines[0].rstrip(".") if lines else "") or type(error).__name__

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
    """Base of all errors that this package raises on purpose."""


class InputError(StiefelLoraError, ValueError):
    """An input that cannot work."""


class ConfigError(InputError):
    """A preset, a config file or a ``--set`` that breaks a rule of the schema."""


class OptionError(InputError):
    """An optimizer option or parameter group out of bounds."""


class PairingError(InputError):
    """Parameters whose LoRA roles cannot be determined without guessing."""


class ModelError(InputError):
    """A base model that is missing, damaged or of another family."""


class DataError(InputError):
    """Images, captions or caches that cannot be used."""


class CheckpointError(InputError):
    """A checkpoint that is damaged or belongs to another run."""


class QueueError(InputError):
    """A request that a queue of jobs cannot carry out."""


class OutputError(InputError):
    """A folder or file that cannot be written."""


class TrainingError(StiefelLoraError, RuntimeError):
    """A run that started from valid input and cannot continue."""


class NonFiniteError(TrainingError):
    """NaN or infinity in loss, gradient or weight."""


def reason_of(error: BaseException) -> str:
    """First line of an error, to stand inside a message; its type where it is empty."""
    if isinstance(error, SystemExit):
        return f"it ends the program: sys.exit({error.code!r})"
    lines = str(error).strip().splitlines()
    return (lines[0].rstrip(".") if lines else "") or type(error).__name__

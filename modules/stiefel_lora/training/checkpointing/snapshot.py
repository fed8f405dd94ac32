"""Conversion between the training state of a run and a checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..._exceptions import CheckpointError, reason_of
from ...adapters import factors_of, load_factors
from ...runs.progress import say
from ..state import TrainingState
from .checkpoint import Checkpoint
from .rng import capture_rng, restore_rng

__all__ = ["fitting", "restore", "take_snapshot"]


def take_snapshot(
    state: TrainingState,
    step: int,
    position: int,
    identity: dict[str, Any],
    figures: dict[str, Any],
) -> Checkpoint:
    """Create a checkpoint from the training state after ``step`` optimizer steps.

    ``figures`` contains counters and averages of the training loop.
    """
    scaler = state.accelerator.scaler
    return Checkpoint(
        step=step,
        position=position,
        identity=identity,
        factors=factors_of(state.model),
        optimizer=state.optimizer.state_dict(),
        training={
            "rng": capture_rng(),
            "noise": state.noise.state(),
            "scaler": scaler.state_dict() if scaler is not None else {},
            **figures,
        },
        average={} if state.average is None else state.average.state(),
    )


def restore(state: TrainingState, checkpoint: Checkpoint, path: Path) -> None:
    """Load a checkpoint into the training state.

    The learning rates of this run are used instead of those in the checkpoint.

    Args:
        state: training state built from the same configuration.
        checkpoint: result of :func:`take_snapshot`.
        path: path of the checkpoint for error messages.

    Raises:
        CheckpointError: If the state does not match this run.
    """
    training = checkpoint.training
    rates = [float(rate) for rate in state.scheduler.base_lrs]
    # Factors first: loading the optimizer records their versions, to detect changes.
    load_factors(state.model, checkpoint.factors)
    with fitting(path, "optimizer state"):
        state.optimizer.load_state_dict(checkpoint.optimizer)
    _set_schedule(state.scheduler, checkpoint.step, rates)
    # After the factors: without an average in the checkpoint, it starts from them.
    if state.average is not None:
        if not checkpoint.average:
            say(
                f"{path} contains no EMA weights. EMA starts at step {checkpoint.step}."
            )
        with fitting(path, "EMA"):
            state.average.restore(checkpoint.average)
    with fitting(path, "state of random numbers and gradient scaler"):
        state.noise.restore(training["noise"])
        # Empty if the checkpoint was written without a scaler; train_dtype may change.
        if state.accelerator.scaler is not None and training["scaler"]:
            state.accelerator.scaler.load_state_dict(training["scaler"])
        # Last: restoring the other parts may draw random numbers.
        restore_rng(training["rng"])


@contextlib.contextmanager
def fitting(path: Path, part: str) -> Iterator[None]:
    """Convert exceptions that are raised while a part of a checkpoint is restored.

    Raises:
        CheckpointError: If the state does not match this run.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise CheckpointError(
            f"The {part} of {path} does not match this run ({reason_of(error)}). "
            "Resume from an older checkpoint."
        ) from error


def _set_schedule(
    scheduler: torch.optim.lr_scheduler.LambdaLR, step: int, rates: list[float]
) -> None:
    """Set the learning rates and the scheduler to those at ``step``."""
    scheduler.last_epoch = step
    scheduler.base_lrs = [*rates]
    # Loading the optimizer replaced the rates of its groups by those in the checkpoint,
    # but learning_rate may have been changed for this resume.
    groups = scheduler.optimizer.param_groups
    for group, rate, factor in zip(groups, rates, scheduler.lr_lambdas, strict=True):
        group["initial_lr"] = rate
        group["lr"] = rate * factor(step)

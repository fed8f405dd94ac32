"""Between the moving parts of a run and a checkpoint, both ways, to the bit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..._exceptions import CheckpointError, reason_of
from ...adapters import factors_of, load_factors
from ...runs.progress import say
from ..state import Machine
from .checkpoint import Checkpoint
from .rng import capture_rng, restore_rng

__all__ = ["fitting", "put_back", "take_snapshot"]


def take_snapshot(
    machine: Machine,
    step: int,
    position: int,
    identity: dict[str, Any],
    figures: dict[str, Any],
) -> Checkpoint:
    """Everything that an exact resume takes, after ``step`` optimizer steps.

    ``figures`` are the loop's own: numbers, texts, lists and dicts of them.
    """
    scaler = machine.accelerator.scaler
    return Checkpoint(
        step=step,
        position=position,
        identity=identity,
        factors=factors_of(machine.model),
        optimizer=machine.optimizer.state_dict(),
        training={
            "rng": capture_rng(),
            "noise": machine.noise.state(),
            "scaler": scaler.state_dict() if scaler is not None else {},
            **figures,
        },
        average={} if machine.average is None else machine.average.state(),
    )


def put_back(machine: Machine, checkpoint: Checkpoint, path: Path) -> None:
    """Set all parts to where ``checkpoint`` left them.

    Learning rates of this run win over those in the checkpoint.

    Args:
        machine: built from the same configuration.
        checkpoint: what ``take_snapshot`` returned.
        path: where it came from, for sentences.

    Raises:
        CheckpointError: the parts do not fit.
    """
    training = checkpoint.training
    rates = [float(rate) for rate in machine.scheduler.base_lrs]
    load_factors(machine.model, checkpoint.factors)
    with fitting(path, "optimizer state"):
        machine.optimizer.load_state_dict(checkpoint.optimizer)
    _set_schedule(machine.scheduler, checkpoint.step, rates)
    if machine.average is not None:
        if not checkpoint.average:
            say(f"{path} holds no EMA; it starts anew at step {checkpoint.step}.")
        with fitting(path, "EMA"):
            machine.average.restore(checkpoint.average)
    with fitting(path, "state of random numbers and gradient scaler"):
        machine.noise.restore(training["noise"])
        if machine.accelerator.scaler is not None and training["scaler"]:
            machine.accelerator.scaler.load_state_dict(training["scaler"])
        restore_rng(training["rng"])


@contextlib.contextmanager
def fitting(path: Path, part: str) -> Iterator[None]:
    """Restore a part of a checkpoint, whose content may be anything.

    Raises:
        CheckpointError: it does not fit.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise CheckpointError(
            f"The {part} of {path} does not fit this run ({reason_of(error)}). Resume "
            f"from an older checkpoint."
        ) from error


def _set_schedule(
    scheduler: torch.optim.lr_scheduler.LambdaLR, step: int, rates: list[float]
) -> None:
    """Rates are a pure function of the step, so they are set, not loaded."""
    scheduler.last_epoch = step
    scheduler.base_lrs = [*rates]
    groups = scheduler.optimizer.param_groups
    for group, rate, factor in zip(groups, rates, scheduler.lr_lambdas, strict=True):
        group["initial_lr"] = rate
        group["lr"] = rate * factor(step)

"""Optimization: batches, steps, optimizer and learning rate."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ...methods import usual_lr
from .._base import Count, Flag, Number, StrictModel, setting
from ..enums import EmaMode, LearningRateScheduler
from ..optimizer import OPTIMIZER_MODELS, OptimizerChoice, OptimizerConfig

__all__ = ["DEFAULT_OPTIMIZER", "OptimizationSettings"]

DEFAULT_OPTIMIZER = "stiefel_lora"
CUSTOM_LEARNING_RATE = 1e-4


def _default_optimizer() -> OptimizerConfig:
    return OPTIMIZER_MODELS[DEFAULT_OPTIMIZER].model_validate(
        {"name": DEFAULT_OPTIMIZER}
    )


def _default_learning_rate(fields: dict[str, Any]) -> float:
    """Return the method's usual rate. ``fields`` are the fields validated so far."""
    optimizer = fields.get("optimizer")
    entry = optimizer.method if optimizer else None
    if optimizer is None or entry is None:
        return CUSTOM_LEARNING_RATE
    return usual_lr(entry, optimizer.arguments())


class OptimizationSettings(StrictModel):
    """Optimization: batches, steps, optimizer and learning rate."""

    batch_size: Annotated[Count, Field(ge=1, le=4096)] = setting(1, label="Batch size")
    """Number of images per batch. A larger batch needs more memory."""

    gradient_accumulation_steps: Annotated[Count, Field(ge=1, le=4096)] = setting(
        1, label="Accumulation steps"
    )
    """Number of batches whose gradients are averaged for one step. This gives a larger
    effective batch without more memory, but each step is slower."""

    steps: Annotated[Count, Field(ge=1)] = setting(1000, label="Steps")
    """Total number of optimizer steps of the run. To count epochs instead, set
    epochs."""

    epochs: Annotated[Number, Field(gt=0, le=1e6)] | None = setting(
        None, label="Epochs", unset_means="the length is set by steps"
    )
    """Length of the run in epochs, instead of steps. In an epoch, every image is used
    as often as its repeats. The number of steps is computed when the images are known,
    and rounded up."""

    optimizer: OptimizerChoice = setting(
        default_factory=_default_optimizer, label="Optimizer"
    )
    """Optimizer and its options. The defaults are a good starting point."""

    plugins: tuple[Annotated[str, Field(min_length=1)], ...] = setting(
        (), label="Plugins"
    )
    """Plugins that register additional optimizers. Each entry is a Python file, such
    as my_method.py, or the name of a module."""

    learning_rate: Annotated[Number, Field(gt=0, le=100)] = setting(
        default_factory=_default_learning_rate,
        label="Learning rate",
        unset_means="the usual value of the optimizer",
    )
    """Step size in the unit of the optimizer. A good learning rate for one optimizer is
    not a good one for another optimizer."""

    learning_rate_scheduler: LearningRateScheduler = setting(
        "constant", label="Learning rate scheduler"
    )
    """Learning rate schedule that is used after the warmup."""

    learning_rate_warmup_steps: Count = setting(0, label="Learning rate warmup steps")
    """Number of steps over which the learning rate rises from zero. It cannot exceed
    the steps of the run."""

    learning_rate_min_factor: Annotated[Number, Field(ge=0, le=1)] = setting(
        0.0, label="Learning rate min factor"
    )
    """Final learning rate of cosine and linear, as a fraction of the learning rate."""

    clip_grad_norm: Annotated[Number, Field(ge=0, le=1e6)] = setting(
        1.0, label="Clip grad norm"
    )
    """Maximum norm of all gradients together. If the norm is larger, the gradients are
    scaled down. Set to 0 to disable clipping. Beginners should leave it at 1."""

    ema: EmaMode = setting("off", label="EMA")
    """Average the LoRA over many steps and use the average for validation, samples and
    the LoRA file. The average is stored on the GPU (gpu) or in RAM (cpu)."""

    ema_decay: Annotated[Number, Field(ge=0, lt=1)] = setting(0.999, label="EMA decay")
    """Fraction of the average that each EMA update keeps. Use 0.999 for a few hundred
    images, 0.998 for fewer images and 0.9999 for thousands."""

    ema_update_step_interval: Annotated[Count, Field(ge=1, le=1000)] = setting(
        5, label="EMA update step interval"
    )
    """Number of steps between updates of the EMA."""

    gradient_checkpointing: Flag = setting(False, label="Gradient checkpointing")
    """Compute activations a second time in the backward pass instead of storing them,
    also in trained text encoders. This needs much less memory, but is about a third
    slower."""

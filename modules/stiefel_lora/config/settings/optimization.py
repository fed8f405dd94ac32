"""Optimization: batches, steps, optimizer and learning rate."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ...methods import usual_lr
from .._base import Count, Flag, Number, StrictModel, setting
from ..enums import EmaMode, LearningRateScheduler
from ..optimizer import OPTIMIZER_MODELS, OptimizerChoice, OptimizerConfig
from ..warmup import Warmup

__all__ = ["DEFAULT_OPTIMIZER", "OptimizationSettings"]

DEFAULT_OPTIMIZER = "stiefel_lora"
CUSTOM_LEARNING_RATE = 1e-4


def _default_optimizer() -> OptimizerConfig:
    return OPTIMIZER_MODELS[DEFAULT_OPTIMIZER].model_validate(
        {"name": DEFAULT_OPTIMIZER}
    )


def _default_learning_rate(fields: dict[str, Any]) -> float:
    """Return the default learning rate of the optimizer."""
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
    """Number of batches whose gradients are averaged in one optimizer step. This
    increases the effective batch size without using more memory, but each step takes
    longer.
    """

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
        unset_means="the default of the optimizer",
    )
    """Learning rate. Its unit depends on the optimizer, so the same value cannot be
    used for different optimizers.
    """

    learning_rate_pattern: dict[
        Annotated[str, Field(min_length=1)], Annotated[Number, Field(gt=0, le=100)]
    ] = setting(default_factory=dict, label="Learning rate pattern")
    """Layers with a different learning rate, such as {"mid_block.*": 0.5} for half of
    it. Each key is a full name, in which * matches any text, or a part of a name, and
    must match at least one layer of the UNet or transformer. If several keys match a
    layer, the last one is used.
    """

    learning_rate_scheduler: LearningRateScheduler = setting(
        "constant", label="Learning rate scheduler"
    )
    """Learning rate scheduler that is used after the warmup. All except constant
    decrease the learning rate until the end of the run.
    """

    learning_rate_cycles: Annotated[Count, Field(ge=1, le=10_000)] = setting(
        1, label="Learning rate cycles"
    )
    """Number of cycles of the scheduler cosine_with_restarts."""

    learning_rate_power: Annotated[Number, Field(gt=0, le=100)] = setting(
        1.0, label="Learning rate power"
    )
    """Power of the scheduler polynomial. 1 is the same as linear."""

    learning_rate_warmup_steps: Warmup = setting(0, label="Learning rate warmup steps")
    """Number of steps in which the learning rate increases from zero, or a text such as
    "5 %" of the steps or "2 epochs". Must not exceed the number of steps of the run.
    """

    learning_rate_min_factor: Annotated[Number, Field(ge=0, le=1)] = setting(
        0.0, label="Learning rate min factor"
    )
    """Final learning rate of all schedulers except constant, as a fraction of the
    learning rate.
    """

    clip_grad_norm: Annotated[Number, Field(ge=0, le=1e6)] = setting(
        1.0, label="Clip grad norm"
    )
    """Maximum total norm of all gradients. Larger gradients are scaled down to this
    norm. 0 disables clipping. The default is recommended for most runs.
    """

    ema: EmaMode = setting("off", label="EMA")
    """Use an exponential moving average (EMA) of the LoRA weights for validation,
    samples and the LoRA file. The average is stored on the GPU (gpu) or in RAM (cpu).
    """

    ema_decay: Annotated[Number, Field(ge=0, lt=1)] = setting(0.999, label="EMA decay")
    """Decay rate of the EMA. Use 0.999 for a few hundred images, 0.998 for fewer images
    and 0.9999 for thousands of images.
    """

    ema_update_step_interval: Annotated[Count, Field(ge=1, le=1000)] = setting(
        5, label="EMA update step interval"
    )
    """Number of steps between updates of the EMA."""

    gradient_checkpointing: Flag = setting(False, label="Gradient checkpointing")
    """Recompute activations in the backward pass instead of storing them, also in
    trained text encoders. This needs much less memory, but training is about a third
    slower.
    """

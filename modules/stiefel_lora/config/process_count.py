"""Check of the number of processes of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._exceptions import ConfigError

if TYPE_CHECKING:
    from .schema import TrainConfig

__all__ = ["check_process_count"]


def check_process_count(config: TrainConfig, count: int) -> None:
    """Check that a training can run on ``count`` processes.

    Raises:
        ConfigError: If the batch cannot be divided, the device is a single GPU, or the
            base model is to be divided but there is one process.
    """
    if count < 1:
        raise ConfigError(f"--processes {count}: must be at least 1.")
    if count == 1 and config.shard_base_model:
        raise ConfigError(
            "shard_base_model=true requires several processes, among which the base "
            "model is divided. Start them with train --processes N, or set "
            "shard_base_model to false.",
            key="shard_base_model",
        )
    size, steps = config.batch_size, config.gradient_accumulation_steps
    if size % count:
        more = -(-size // count) * count
        raise ConfigError(
            f"batch_size={size}: the images of a batch cannot be divided among {count} "
            f"processes. Set batch_size to a multiple of {count}, such as {more}"
            + (", and gradient_accumulation_steps lower." if steps > 1 else "."),
            key="batch_size",
        )
    if count > 1 and ":" in config.device:
        raise ConfigError(
            f"device={config.device!r}: {count} processes need a GPU each. "
            'Set device to "auto" or "cuda", and choose GPUs with '
            "CUDA_VISIBLE_DEVICES.",
            key="device",
        )

"""What to do when memory runs out, said for the configuration at hand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .._exceptions import TrainingError, reason_of

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["advise_on_memory", "savings"]

# What torch says on a CPU, where it has no class of its own for it.
_WORDS = ("can't allocate memory", "not enough memory")


@contextlib.contextmanager
def advise_on_memory(
    config: TrainConfig, last_good: Callable[[], Path | None]
) -> Iterator[None]:
    """Turn an out-of-memory into a sentence that helps.

    Args:
        config: of the run.
        last_good: gives the checkpoint to resume from, None without one.

    Raises:
        TrainingError: names the settings that would save most, and the checkpoint to
            go on from.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        kept = last_good()
        last = f"go on from {kept}" if kept else "there is no checkpoint yet"
        raise TrainingError(
            f"Out of memory ({reason_of(error)}). What would save most here: "
            f"{', '.join(savings(config)[:3])}; {last}."
        ) from error


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(word in str(error) for word in _WORDS)


def savings(config: TrainConfig) -> list[str]:
    """Settings that save memory, those that save most first.

    The order is that of sizes in a full SDXL or FLUX: activations, then the base
    model, then what grows with the LoRA; a setting that is low already is left out.
    """
    found = (saving(config) for saving in _SAVINGS)
    return [sentence for sentence in found if sentence]


def _checkpointing(config: TrainConfig) -> str | None:
    return None if config.gradient_checkpointing else "gradient_checkpointing=true"


def _batch(config: TrainConfig) -> str | None:
    if config.batch_size == 1:
        return None
    pictures = config.batch_size * config.gradient_accumulation_steps
    return f"batch_size=1 with gradient_accumulation_steps={pictures}"


def _weights(config: TrainConfig) -> str | None:
    lower = {"float32": "bfloat16", "bfloat16": "nfloat4", "float16": "nfloat4"}
    lower["int8"] = "nfloat4"
    found = lower.get(config.weight_dtype)
    return f"weight_dtype={found}" if found else None


def _computation(config: TrainConfig) -> str | None:
    if config.train_dtype != "float32" or config.device == "cpu":
        return None
    return "train_dtype=bfloat16"


def _resolution(config: TrainConfig) -> str | None:
    lower = config.resolution * 3 // 4 // 64 * 64
    return f"resolution={lower}" if lower >= 256 else None


def _moments(config: TrainConfig) -> str | None:
    return "optimizer.name=adamw_8bit" if config.optimizer.name == "adamw" else None


def _rank(config: TrainConfig) -> str | None:
    return f"lora_rank={config.lora_rank // 2}" if config.lora_rank >= 8 else None


def _layers(config: TrainConfig) -> str | None:
    if config.layer_filter or config.layer_filter_preset == "attn-only":
        return None
    return "layer_filter_preset=attn-only"


def _other_programs(config: TrainConfig) -> str | None:
    return "closing other programs that use the same memory"


_SAVINGS: tuple[Callable[[TrainConfig], str | None], ...] = (
    _checkpointing,
    _batch,
    _weights,
    _computation,
    _resolution,
    _moments,
    _layers,
    _rank,
    _other_programs,
)

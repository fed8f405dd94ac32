"""Say where NaN or infinity came from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from .._exceptions import NonFiniteError

__all__ = ["check_blocks", "check_finite", "first_bad_block"]


def check_finite(
    value: float,
    what: str,
    *,
    step: int,
    adapters: Mapping[str, Tensor],
    last: Path | None,
) -> None:
    """Stop a run whose loss or gradient norm is not a number.

    Args:
        value: the number.
        what: its name in the sentence.
        step: the step that was being taken, from 1.
        adapters: what was added to the model, by peft's names, to search.
        last: the last good checkpoint.

    Raises:
        NonFiniteError: ``value`` is NaN or infinite.
    """
    if math.isfinite(value):
        return
    raise _error(f"the {what} is {value}", first_bad_block(adapters), step, last)


def check_blocks(
    adapters: Mapping[str, Tensor], *, step: int, last: Path | None
) -> None:
    """Refuse to save weights that are not numbers: ``last`` stays the last good one.

    Raises:
        NonFiniteError: a factor or magnitude holds NaN or infinity after ``step``.
    """
    found = first_bad_block(adapters)
    if found:
        raise _error("the weights are not finite", found, step, last)


def _error(
    what: str, found: str | None, step: int, last: Path | None
) -> NonFiniteError:
    where = (
        f"the first block that is not finite is {found}"
        if found
        else "no LoRA block is the origin, so the base model overflows"
    )
    kept = f"the last good checkpoint is {last}" if last else "there is no checkpoint"
    return NonFiniteError(
        f"Step {step}: {what}; {where}; {kept}. Lower learning_rate, or "
        f'set train_dtype and weight_dtype to "bfloat16" or "float32".'
    )


def first_bad_block(adapters: Mapping[str, Tensor]) -> str | None:
    """Name the first block with a weight, or else a gradient, that is not finite."""
    for kind in ("weight", "gradient"):
        for name, parameter in adapters.items():
            tensor = parameter if kind == "weight" else parameter.grad
            if tensor is not None and not _all_finite(tensor):
                block, _, part = name.partition(".lora_")
                return f"{block} ({kind} of {part.partition('.')[0]})"
    return None


def _all_finite(tensor: Tensor) -> bool:
    return bool(tensor.detach().isfinite().all())

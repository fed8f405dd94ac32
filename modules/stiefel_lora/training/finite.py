"""Say where NaN or infinity came from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from .._exceptions import NonFiniteError
from ..optim.pairs import Pair

__all__ = ["check_blocks", "check_finite", "first_bad_block"]


def check_finite(
    value: float, what: str, *, step: int, pairs: Sequence[Pair], last: Path | None
) -> None:
    """Stop a run whose loss or gradient norm is not a number.

    Args:
        value: the number.
        what: its name in the sentence.
        step: the step that was being taken, from 1.
        pairs: LoRA blocks to search for the origin.
        last: the last good checkpoint.

    Raises:
        NonFiniteError: ``value`` is NaN or infinite.
    """
    if math.isfinite(value):
        return
    raise _error(f"the {what} is {value}", first_bad_block(pairs), step, last)


def check_blocks(pairs: Sequence[Pair], *, step: int, last: Path | None) -> None:
    """Refuse to save weights that are not numbers: ``last`` stays the last good one.

    Raises:
        NonFiniteError: a factor holds NaN or infinity after ``step``.
    """
    found = first_bad_block(pairs)
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


def first_bad_block(pairs: Sequence[Pair]) -> str | None:
    """Name the first block with a weight, or else a gradient, that is not finite."""
    for kind in ("weight", "gradient"):
        for pair in pairs:
            for role, factor in (("B", pair.up), ("A", pair.down)):
                tensor = factor if kind == "weight" else factor.grad
                if tensor is not None and not _all_finite(tensor):
                    return f"{pair.name} ({kind} of {role})"
    return None


def _all_finite(tensor: Tensor) -> bool:
    return bool(tensor.detach().isfinite().all())

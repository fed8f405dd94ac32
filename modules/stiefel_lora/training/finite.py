"""Detection of the origin of NaN and infinity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from .._exceptions import NonFiniteError

__all__ = ["check_blocks", "check_finite", "first_bad_block", "first_bad_weight"]


def check_finite(
    value: float,
    what: str,
    *,
    step: int,
    adapters: Mapping[str, Tensor],
    last: Path | None,
    model: nn.Module | None = None,
) -> None:
    """Stop a run whose loss or gradient norm is not finite.

    Args:
        value: the loss or norm.
        what: its name in the message.
        step: the current step, from 1.
        adapters: parameters that were added to the model, by peft's names, to search.
        last: the last good checkpoint.
        model: the whole model; a base that is not finite makes everything else NaN.

    Raises:
        NonFiniteError: ``value`` is NaN or infinite.
    """
    if math.isfinite(value):
        return
    origin = first_bad_weight(model, adapters) if model is not None else None
    if origin:
        raise NonFiniteError(
            f"Step {step}: the {what} is {value}; the base model contains NaN or "
            f"infinity, first in {origin}, so no setting helps. Download or "
            f"convert the base model again, or choose another one."
        )
    raise _error(f"the {what} is {value}", first_bad_block(adapters), step, last)


def check_blocks(
    adapters: Mapping[str, Tensor], *, step: int, last: Path | None
) -> None:
    """Refuse to save weights that are not finite: ``last`` stays the last good one.

    Raises:
        NonFiniteError: a factor or magnitude contains NaN or infinity after ``step``.
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


def first_bad_weight(model: nn.Module, adapters: Mapping[str, Tensor]) -> str | None:
    """Find the first tensor of the base model that is not finite.

    Args:
        model: the model with its adapters.
        adapters: added parameters, which are skipped.
    """
    added = {id(parameter) for parameter in adapters.values()}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        # Integers are quantized weights.
        if tensor.is_floating_point() and id(tensor) not in added:
            # isfinite has no kernel for 8-bit floats.
            numbers = tensor if tensor.element_size() > 1 else tensor.float()
            if not _all_finite(numbers):
                return name.removeprefix("module.").replace(".base_layer.", ".")
    return None


def first_bad_block(adapters: Mapping[str, Tensor]) -> str | None:
    """Find the first block with a weight, or else a gradient, that is not finite."""
    for kind in ("weight", "gradient"):
        for name, parameter in adapters.items():
            tensor = parameter if kind == "weight" else parameter.grad
            if tensor is not None and not _all_finite(tensor):
                block, _, part = name.partition(".lora_")
                return f"{block} ({kind} of {part.partition('.')[0]})"
    return None


def _all_finite(tensor: Tensor) -> bool:
    return bool(tensor.detach().isfinite().all())

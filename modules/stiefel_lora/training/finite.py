"""Detection of NaN and infinity in training, and of their origin."""

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
    """Check that the loss or gradient norm is finite.

    Args:
        value: loss or gradient norm.
        what: name of the value in the error message.
        step: current step, starting at 1.
        adapters: parameters of the adapters, by their names in peft.
        last: last valid checkpoint.
        model: model whose base weights are checked if ``value`` is not finite.

    Raises:
        NonFiniteError: If ``value`` is NaN or infinite.
    """
    if math.isfinite(value):
        return
    origin = first_bad_weight(model, adapters) if model is not None else None
    if origin:
        raise NonFiniteError(
            f"Step {step}: the {what} is {value} because the base model contains "
            f"NaN or infinity, first in {origin}. Changing settings does not help. "
            "Download or convert the base model again, or use another one."
        )
    raise _error(f"the {what} is {value}", first_bad_block(adapters), step, last)


def check_blocks(
    adapters: Mapping[str, Tensor], *, step: int, last: Path | None
) -> None:
    """Check that the adapters are finite before a checkpoint is saved.

    Raises:
        NonFiniteError: If a factor or magnitude contains NaN or infinity.
    """
    found = first_bad_block(adapters)
    if found:
        raise _error("the weights contain NaN or infinity", found, step, last)


def _error(
    what: str, found: str | None, step: int, last: Path | None
) -> NonFiniteError:
    where = (
        f"The first block with NaN or infinity is {found}"
        if found
        else "All LoRA blocks are finite, so the base model overflows"
    )
    kept = (
        f"The last valid checkpoint is {last}"
        if last
        else "No checkpoint has been saved"
    )
    return NonFiniteError(
        f"Step {step}: {what}. {where}. {kept}. Lower learning_rate, or set "
        'train_dtype and weight_dtype to "bfloat16" or "float32".'
    )


def first_bad_weight(model: nn.Module, adapters: Mapping[str, Tensor]) -> str | None:
    """Find the first tensor of the base model with NaN or infinity.

    Args:
        model: model with adapters.
        adapters: parameters of the adapters, which are not checked.
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
    """Find the first block with NaN or infinity in a weight, else in a gradient."""
    for kind in ("weight", "gradient"):
        for name, parameter in adapters.items():
            tensor = parameter if kind == "weight" else parameter.grad
            if tensor is not None and not _all_finite(tensor):
                block, _, part = name.partition(".lora_")
                return f"{block} ({kind} of {part.partition('.')[0]})"
    return None


def _all_finite(tensor: Tensor) -> bool:
    return bool(tensor.detach().isfinite().all())

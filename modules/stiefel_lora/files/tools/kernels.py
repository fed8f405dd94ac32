"""Kernel sizes of layers, which the factors of a LoHa or LoKr do not contain.

A convolution without a Tucker core is stored as a matrix with in * k * k columns, which
loaders reshape to the weight of the model. A plain LoRA of a convolution has its kernel
in A.
"""

from __future__ import annotations

import dataclasses
import math
import re

from torch import Tensor

from ..._exceptions import ModelError
from ...families.catalogue import record_of
from .base_checkpoint import Checkpoint
from .lora_file import LoraLayer

__all__ = ["kernel_of", "with_kernel", "with_kernel_of"]


def kernel_of(
    name: str, family: str, base: Checkpoint | None = None
) -> tuple[int, ...]:
    """Return the kernel of a layer, or () for a linear one.

    Args:
        name: canonical name.
        family: a family with a record.
        base: base model, whose weight determines the kernel if it has the layer.
    """
    place = None if base is None else base.places.get(name)
    if base is not None and place is not None:
        return base.specs[place.key].shape[2:]
    for end, side in record_of(family).lora_files.convolutions.items():
        if re.search(rf"{end}$", name):
            return side, side
    return ()


def with_kernel(update: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """Reshape an update (out, in * k * k) to (out, in, k, k).

    Raises:
        ModelError: If the number of columns is not a multiple of k * k.
    """
    if update.ndim > 2 or not kernel:
        return update
    places = math.prod(kernel)
    if update.shape[1] % places:
        raise ModelError(
            f"has {update.shape[1]} columns, which is not a multiple of its kernel "
            f"{' x '.join(map(str, kernel))}. Use a file for the same model."
        )
    return update.reshape(update.shape[0], -1, *kernel)


def with_kernel_of(first: LoraLayer, layer: LoraLayer) -> LoraLayer:
    """Add or remove the dimensions of a 1 x 1 kernel, as the first summand has it.

    ``proj_in`` is a matrix or a convolution, depending on the model and the program.
    """
    up, down = layer.factors.up, layer.factors.down
    kernel = first.factors.down.shape[2:]
    if down.shape[2:] == kernel or down[0].numel() != down.shape[1]:
        return layer
    if any(size != 1 for size in kernel):
        return layer
    factors = dataclasses.replace(
        layer.factors,
        up=up.reshape(*up.shape[:2], *first.factors.up.shape[2:]),
        down=down.reshape(*down.shape[:2], *kernel),
    )
    return dataclasses.replace(layer, factors=factors)

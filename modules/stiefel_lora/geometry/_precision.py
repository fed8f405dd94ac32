"""Full float32 matrix products, whatever the host program has allowed.

TF32 keeps 10 bits of mantissa: a Gram matrix loses three digits of orthonormality.
Autocast would do worse. Geometry therefore runs inside this context.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["full_precision"]


@contextlib.contextmanager
def full_precision(device_type: str = "cpu") -> Iterator[None]:
    """Pin float32 products to float32 and switch autocast off inside the block."""
    before = torch.get_float32_matmul_precision()
    # Writing the setting resets backend flags, so it is left alone where it is right.
    if before != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device_type=device_type, enabled=False):
            yield
    finally:
        if before != "highest":
            torch.set_float32_matmul_precision(before)

"""Full float32 matrix products, whatever precision the host program has set.

TF32 keeps 10 bits of mantissa, so a Gram matrix loses three digits of orthonormality.
Autocast is worse. Therefore all geometry runs inside this context.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["full_precision"]


@contextlib.contextmanager
def full_precision(device_type: str = "cpu") -> Iterator[None]:
    """Compute float32 products in float32 and disable autocast inside the block."""
    before = torch.get_float32_matmul_precision()
    # Writing the setting resets backend flags, so it is skipped if not needed.
    if before != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device_type=device_type, enabled=False):
            yield
    finally:
        if before != "highest":
            torch.set_float32_matmul_precision(before)

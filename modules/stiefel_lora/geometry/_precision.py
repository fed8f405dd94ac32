"""Context for matrix products in full float32 precision.

TF32 has 10 bits of mantissa, which is not enough for orthonormality, and autocast uses
even fewer bits. Therefore, all functions of this package run in this context,
independent of the settings of the calling program.
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

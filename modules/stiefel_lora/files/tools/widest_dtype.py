"""Dtype that holds the values of several dtypes."""

from __future__ import annotations

from collections.abc import Iterable

import torch

__all__ = ["widest_dtype"]


def widest_dtype(dtypes: Iterable[torch.dtype]) -> torch.dtype:
    """Return the narrowest dtype that is as wide and as precise as each dtype.

    Unlike ``torch.promote_types``, it supports 8-bit dtypes, for which it is float16 if
    they differ. Integers are ignored. float32 if there is no dtype.
    """
    kinds = {dtype for dtype in dtypes if dtype.is_floating_point}
    if len(kinds) == 1:
        return kinds.pop()
    sizes = {dtype.itemsize for dtype in kinds}
    if max(sizes, default=4) == 1:
        return torch.float16
    # float16 and bfloat16 have other values than each other.
    wide = {dtype for dtype in kinds if dtype.itemsize == max(sizes)}
    return wide.pop() if len(wide) == 1 else torch.float32

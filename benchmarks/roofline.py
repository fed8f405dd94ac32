"""Time of one call on a GPU, computed from what it moves and multiplies.

Each operation takes the longest of three times: its bytes over the memory bandwidth,
its products over the arithmetic rate, and one launch. The sum is what launches one
after the other take at best: caches and overlap would shorten it, uneven work lengthens
it. Factorizations by LAPACK (eigenvectors, Cholesky, QR) count as one launch each and
their bytes, so methods that have them take longer by an unknown amount.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from step_cost import VIEWS
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["GPUS", "LAUNCH_SECONDS", "Computed", "Gpu", "computed"]

LAUNCH_SECONDS = 5e-6
# Numbers that the host reads: step counts, which are on the CPU on every device.
_HOST = ("_local_scalar_dense", "scalar_tensor")
_PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "addmm_", "baddbmm_")


@dataclasses.dataclass(frozen=True)
class Gpu:
    """Published figures of a GPU, without sparsity and tensor cores."""

    name: str
    bytes_per_second: float
    float32: float
    float64: float


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("RTX 3090", 0.936e12, 35.6e12, 0.556e12),
        Gpu("RTX 4090", 1.008e12, 82.6e12, 1.29e12),
        Gpu("RTX 5090", 1.792e12, 104.8e12, 1.64e12),
        Gpu("A100", 2.039e12, 19.5e12, 9.7e12),
        Gpu("H100", 3.35e12, 67e12, 34e12),
        Gpu("H200", 4.8e12, 67e12, 34e12),
    )
}


@dataclasses.dataclass(frozen=True)
class Computed:
    """Counts of one call and the time that they take at least.

    Attributes:
        launches: operations that compute or copy.
        factorizations: those of them that are LAPACK's.
        bytes: all operands and results, as if nothing was in a cache.
        flops: of matrix products, in float32 and in float64.
        flops64: those in float64.
        seconds: sum over the operations.
    """

    launches: int
    factorizations: int
    bytes: float
    flops: float
    flops64: float
    seconds: float


def computed(step: Callable[[], object], gpu: Gpu, layers: float = 1.0) -> Computed:
    """Count one call.

    Args:
        step: the call.
        gpu: the GPU.
        layers: factor for bytes and products, if the call works on one layer in so
            many in the same number of launches.
    """
    with _Counter(gpu, layers) as counter:
        step()
    return Computed(
        counter.launches,
        counter.factorizations,
        counter.bytes,
        counter.flops + counter.flops64,
        counter.flops64,
        counter.seconds,
    )


class _Counter(TorchDispatchMode):
    def __init__(self, gpu: Gpu, layers: float) -> None:
        super().__init__()
        self._gpu, self._layers = gpu, layers
        self.launches = self.factorizations = 0
        self.bytes = self.flops = self.flops64 = self.seconds = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if func.is_view or name in (*VIEWS, *_HOST):
            return result
        moved = self._layers * _bytes(func, args, kwargs or {}, result)
        flops = self._layers * _flops(name, args)
        wide = isinstance(result, torch.Tensor) and result.dtype == torch.float64
        rate = self._gpu.float64 if wide else self._gpu.float32
        self.launches += 1
        self.factorizations += name.removeprefix("_").startswith("linalg_") and (
            "norm" not in name
        )
        self.bytes += moved
        self.flops64 += flops if wide else 0.0
        self.flops += 0.0 if wide else flops
        self.seconds += max(
            moved / self._gpu.bytes_per_second, flops / rate, LAUNCH_SECONDS
        )
        return result


def _bytes(func: Any, args: Any, kwargs: Any, result: Any) -> int:
    """Bytes read, and written to results or, without any, to changed arguments."""
    written = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
    if not written:
        changed = [
            arg
            for arg, given in zip(args, func._schema.arguments, strict=False)
            if given.alias_info is not None and given.alias_info.is_write
        ]
        written = tree_leaves(changed)
    leaves = [*tree_leaves((args, kwargs)), *written]
    return sum(leaf.nbytes for leaf in leaves if isinstance(leaf, torch.Tensor))


def _flops(name: str, args: Any) -> float:
    if name not in _PRODUCTS:
        return 0.0
    left, right = args[-2:] if name in ("mm", "bmm") else args[1:3]
    return 2.0 * math.prod(left.shape) * right.shape[-1]

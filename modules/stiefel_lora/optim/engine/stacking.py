"""Stacking of tensors of the same shape, and copying stacks back."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["bucketed", "chunked", "column", "gather", "scatter", "seen"]

Item = TypeVar("Item")

# Elements of one stacked factor pair. A rule temporarily holds about eight such copies:
# 2**23 floats are 32 MB, so at most 270 MB.
CHUNK_ELEMENTS = 2**23


def bucketed(
    items: Sequence[Item], key: Callable[[Item], Hashable]
) -> Iterator[list[Item]]:
    """Group items by key, in order of first appearance."""
    buckets: dict[Hashable, list[Item]] = {}
    for item in items:
        buckets.setdefault(key(item), []).append(item)
    yield from buckets.values()


def chunked(
    items: list[Item], elements_each: int, limit: int | None = None
) -> Iterator[list[Item]]:
    """Split a list so that no chunk has more elements than the limit.

    Args:
        items: items of the same shape.
        elements_each: number of elements of an item.
        limit: maximum number of elements of a chunk. The default is ``CHUNK_ELEMENTS``.
    """
    # An item that exceeds the limit by itself is a separate chunk.
    size = max(1, (limit or CHUNK_ELEMENTS) // max(1, elements_each))
    for start in range(0, len(items), size):
        yield items[start : start + size]


def column(values: Sequence[float | Tensor], like: Tensor) -> Tensor:
    """Create a tensor ``(K, 1, 1)`` on the device of ``like`` without synchronizing.

    Creating a tensor from a list copies from pageable memory, which synchronizes, while
    ``torch.full`` passes the number as a kernel argument. Values that are tensors stay
    on their device.
    """
    if any(isinstance(value, Tensor) for value in values):
        parts = [torch.as_tensor(v, device=like.device).to(like) for v in values]
        return torch.stack([part.reshape(1, 1) for part in parts])
    # Equal neighbors share one fill; usually all pairs have the same value.
    runs = [(value, len(list(run))) for value, run in groupby(map(float, values))]
    parts = [like.new_full((count, 1, 1), value) for value, count in runs]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def seen(tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Stack K tensors for reading. A single contiguous tensor is not copied."""
    if len(tensors) == 1:
        # A float32 parameter itself, seen as a stack of one. A rule may write into it
        # only where FactorBatch.writable is set.
        tensor = tensors[0].detach()
        if tensor.dtype == dtype and tensor.is_contiguous():
            # One call in place of five: this runs for every tensor of every pair.
            return tensor.view(1, tensor.shape[0], -1)
        return tensor.flatten(1).unsqueeze(0).to(dtype).contiguous()
    return gather(tensors, dtype)


def gather(tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Stack K tensors as ``(K, rows, columns)``. Trailing axes are flattened."""
    # Cast after stacking: one conversion for all K tensors instead of K.
    return torch.stack([tensor.flatten(1) for tensor in tensors]).to(dtype)


def scatter(stacked: Tensor, tensors: Sequence[Tensor]) -> None:
    """Copy the K slices of a stack back into their tensors, in place."""
    if len(tensors) == 1:
        tensor = tensors[0]
        # Nothing to copy if it was used and written in place.
        same = stacked.data_ptr() == tensor.data_ptr()
        if not same or stacked.dtype != tensor.dtype:
            tensor.copy_(stacked[0].view(tensor.shape))
        return
    # The slices take the shape of the tensors, not the other way round: splitting an
    # axis is a view under any strides, merging axes (channels_last) is not.
    slices = zip(stacked.unbind(0), tensors, strict=True)
    parts = [part.view(tensor.shape) for part, tensor in slices]
    torch._foreach_copy_(list(tensors), parts)
